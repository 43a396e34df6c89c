"""What a weight format is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import numpy.typing as npt

F32Array: TypeAlias = "npt.NDArray[np.float32]"
Parts: TypeAlias = "dict[str, npt.NDArray[Any]]"


class Part(NamedTuple):
    """One stored array of a tensor, row-major, little-endian; its dtype as NumPy writes it: "u1", "<f2", "<f4"."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(self.dtype[-1]) * math.prod(self.shape)


class Format(ABC):
    """Encodes float32 rows into parts and back."""

    name: str
    grouped: bool  # has a group size: one scale per `group_size` inputs of a row

    @abstractmethod
    def layout(self, shape: tuple[int, ...], group_size: int) -> dict[str, Part]:
        """Part name → dtype and shape for a tensor of ``shape`` (rows first)."""

    @abstractmethod
    def encode(self, rows: F32Array, group_size: int) -> Parts:
        """The parts of float32 rows; of grouped formats without ``scales_f16``, which depend on the whole tensor."""

    @abstractmethod
    def decode(self, parts: Parts, shape: tuple[int, ...], group_size: int) -> F32Array:
        """Rows as float32, of ``shape``."""
