"""Trained models at int4 lose no more than they would by llama.cpp's arithmetic for Q4_0, at the same group size.

That is modelled from ggml's quantize_row_q4_0_ref, quantize_row_q8_0_ref and ggml_vec_dot_q4_0_q8_0 (ggml-quants.c,
ggml-cpu/quants.c): per group a half-precision scale that maps the value of largest magnitude to -8; activations rounded
to -127..127 by a half-precision scale; exact sums within a group, floats beyond. Keys and values stay float32 in it.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from edgeslm.bundle import Bundle
from edgeslm.converters.checkpoint import Checkpoint, open_checkpoint
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.decoder import build
from edgeslm.engines.native import NativeEngine
from edgeslm.engines.reference import KvCache, NumpyBuilder, ReferenceEngine
from edgeslm.weights import F32Array, WeightSource

Ids = npt.NDArray[np.int32]
LENGTH = 128  # tokens of a text


def by_groups(rows: F32Array, group: int) -> F32Array:
    """(n, k) → (n, groups, group), padded with zeros."""
    n, k = rows.shape
    return np.pad(rows, ((0, 0), (0, -k % group))).reshape(n, -1, group)


def inverse(scales: F32Array) -> F32Array:
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)


def halved(scales: F32Array) -> F32Array:
    return scales.astype(np.float16).astype(np.float32)


def round_q4_0(rows: F32Array, group: int) -> F32Array:
    """Weights as Q4_0 keeps them."""
    w = by_groups(rows, group)
    peak = np.take_along_axis(w, np.abs(w).argmax(-1)[..., None], -1)
    scale = np.asarray(peak / np.float32(-8))
    q = np.clip(np.trunc(w * inverse(scale) + np.float32(8.5)), 0, 15) - 8
    return np.asarray((q * halved(scale)).reshape(len(rows), -1)[:, : rows.shape[1]])


def round_q8_0(rows: F32Array, group: int) -> F32Array:
    """Activations as Q8_0 keeps them."""
    x = by_groups(rows, group)
    scale = np.asarray(np.abs(x).max(-1, keepdims=True) / np.float32(127))
    steps = x * inverse(scale)
    q = np.trunc(steps + np.copysign(np.float32(0.5), steps))  # roundf
    return np.asarray((q * halved(scale)).reshape(len(rows), -1)[:, : rows.shape[1]])


class Q40Weights:
    """A source whose matrices are those of a Q4_0 file."""

    def __init__(self, source: WeightSource, group: int) -> None:
        self._source, self._group = source, group
        self._matrices: dict[str, F32Array] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)

    def rows(self, name: str, start: int, stop: int) -> F32Array:
        if len(self.shape(name)) == 1:
            return self._source.rows(name, start, stop)
        return self._matrix(name)[start:stop]

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> F32Array:
        return self._matrix(name)[indices]

    def _matrix(self, name: str) -> F32Array:
        if name not in self._matrices:
            self._matrices[name] = round_q4_0(self._source.rows(name, 0, self.shape(name)[0]), self._group)
        return self._matrices[name]


class Q40Builder(NumpyBuilder):
    """A pass with activations rounded before every linear."""

    group: int

    def linear(self, x: Any, weight: str, bias: bool = False) -> Any:
        return super().linear(round_q8_0(x, self.group), weight, bias)


class Q40Engine:
    def __init__(self, checkpoint: Checkpoint, group: int) -> None:
        self._spec, self._weights, self._group = checkpoint.spec, Q40Weights(checkpoint.weights, group), group

    def logits(self, ids: Ids) -> F32Array:
        """Of all rows of a text."""
        builder = Q40Builder(self._spec, self._weights, [KvCache(b.mixer) for b in self._spec.layers], ids, 0)
        builder.group = self._group
        found: F32Array = build(self._spec, builder)
        return found


def log_softmax(logits: F32Array) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def divergence(original: F32Array, other: F32Array) -> float:
    """Mean KL of the next token's distribution."""
    p, q = log_softmax(original), log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def stories(shared: Path, tokenizer: Tokenizer) -> list[list[int]]:
    with lzma.open(shared / "corpora/tinystories-sample.txt.xz", "rt", encoding="utf-8") as file:
        ids = tokenizer.encode(file.read(20_000)).ids
    return [ids[i : i + LENGTH] for i in range(0, 8 * LENGTH, LENGTH)]


def sentences(shared: Path, tokenizer: Tokenizer) -> list[list[int]]:
    with lzma.open(shared / "corpora/eng-deu.test.tsv.xz", "rt", encoding="utf-8") as file:
        pairs = [next(file).rstrip("\n").split("\t") for _ in range(24)]
    return [tokenizer.encode(f"<s><2de> {english}<sep> {german}").ids for english, german, *_ in pairs]


TEXTS = {"stories260K": stories, "en-de-6m": sentences}


@pytest.mark.parametrize(("name", "group"), [("stories260K", 32), ("stories260K", 64), ("en-de-6m", 32)])
def test_int4_loses_no_more(name: str, group: int, shared: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(shared / "models" / name)
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    texts = [np.array(text, np.int32) for text in TEXTS[name](shared, tokenizer)]
    convert(checkpoint.folder, tmp_path / "bundle", options=Options("int4", group), check=False)
    ours = NativeEngine.open(Bundle.open(tmp_path / "bundle"), 1)
    original, q4_0 = ReferenceEngine(checkpoint.spec, checkpoint.weights), Q40Engine(checkpoint, group)
    found = []
    for ids in texts:
        kept = original.new_session().forward(ids, "all")
        found.append([divergence(kept, other) for other in (ours.new_session().forward(ids, "all"), q4_0.logits(ids))])
    lost = np.mean(found, axis=0)
    print(f"{name}, groups of {group}: KL {lost[0]:.4f}, by Q4_0's arithmetic {lost[1]:.4f}")
    assert 0 < lost[0] < lost[1]
