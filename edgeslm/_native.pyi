from array import array
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeslm.engines.program import Program

F32Array: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.uint16]
Weight: TypeAlias = tuple[str, int, int, int, memoryview, memoryview | None, float]
RopeTable: TypeAlias = tuple[memoryview[Any], float, float, int]

def kernel_rows() -> list[tuple[str, str, str, bool]]: ...
def isa() -> str: ...
def pack(format: str, isa: str | None, x: F32Array, group: int = 0) -> npt.NDArray[np.uint8]: ...
def linear(
    format: str,
    isa: str | None,
    data: npt.NDArray[np.uint8],
    scales: Halves | None,
    scale: float,
    n: int,
    k: int,
    group: int,
    x: npt.NDArray[np.uint8],
    y: F32Array,
    n0: int,
    n1: int,
    bias: F32Array | None = None,
    accumulate: bool = False,
) -> None: ...
def embed(
    format: str,
    isa: str | None,
    data: npt.NDArray[np.uint8],
    scales: Halves | None,
    scale: float,
    n: int,
    k: int,
    group: int,
    row: int,
    factor: float,
    out: F32Array,
) -> None: ...
def quantize(format: str, isa: str | None, rows: F32Array, group: int) -> tuple[npt.NDArray[np.uint8], F32Array]: ...
def norm(isa: str, x: F32Array, weight: F32Array, eps: float, out: F32Array, accumulate: bool = False) -> None: ...
def act_mul(isa: str, gate: F32Array, up: F32Array, n: int, act: str) -> None: ...
def rope(isa: str, x: F32Array, cosine: F32Array, sine: F32Array) -> None: ...
def exp_sum(isa: str, x: F32Array, top: float) -> float: ...
def merge(
    isa: str,
    max: F32Array,
    sum: F32Array,
    acc: F32Array,
    part_max: F32Array,
    part_sum: F32Array,
    part_acc: F32Array,
    times: int = 1,
) -> None: ...
def kv_store(format: str, isa: str, keys: F32Array, values: F32Array, first: int) -> npt.NDArray[np.uint8]: ...
def attend(
    format: str,
    isa: str,
    q: F32Array,
    d: int,
    block: npt.NDArray[np.uint8],
    seen: npt.NDArray[np.int32],
    softcap: float,
    max: F32Array,
    sum: F32Array,
    acc: F32Array,
    times: int = 1,
) -> None: ...
def read(isa: str, words: npt.NDArray[np.uint64]) -> int: ...
def read_bandwidth(words: npt.NDArray[np.uint64], threads: int, passes: int) -> tuple[float, int]: ...
def map_pages(areas: list[memoryview]) -> None: ...

class Model:
    vocab: int
    layers: list[tuple[int, int]]
    kv_format: str
    def __init__(
        self,
        program: Program,
        vocab: int,
        context: int,
        weights: list[Weight],
        vectors: list[memoryview[Any]],
        ropes: list[RopeTable],
        threads: int,
        kv_format: str,
    ) -> None: ...
    def memory(self, tokens: int) -> tuple[int, int]: ...
    def close(self) -> None: ...

class Session:
    model: Model
    def __init__(self, model: Model) -> None: ...
    def fork(self) -> Session: ...
    @property
    def length(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def rewindable_to(self) -> int: ...
    def cancel(self, on: bool) -> None: ...
    def truncate(self, length: int) -> None: ...
    def shape(self, layer: int, length: int, high: int) -> tuple[int, int, int]: ...
    def read(self, layer: int, arrays: list[npt.NDArray[Any]]) -> None: ...
    def restore(self, length: int, high: int) -> None: ...
    def write(self, layer: int, arrays: list[npt.NDArray[Any]]) -> None: ...
    def close(self) -> None: ...

class Greedy:
    def __init__(self, model: Model, slots: int, ends: array[int]) -> None: ...
    def __len__(self) -> int: ...
    def start(self, key: object, prompt: array[int], limit: int, fresh: bool) -> None: ...
    def run(self, wanted: int) -> list[tuple[Any, list[int], bool, float]]: ...

def run(
    sessions: list[Session],
    starts: list[int],
    counts: list[int],
    ids: npt.NDArray[np.int32],
    all_rows: bool,
    logits: F32Array,
) -> None: ...
