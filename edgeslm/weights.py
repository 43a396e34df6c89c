"""Where float32 weights come from: a checkpoint being converted, or a bundle being read back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

F32Array = npt.NDArray[np.float32]

BLOCK_BYTES = 32 << 20  # float32 bytes of a row block: small beside a model, large enough for BLAS


class WeightSource(Protocol):
    """Weights by canonical name, handed out in blocks of rows so that no whole model is ever held as float32."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a weight; rows first."""

    def rows(self, name: str, start: int, stop: int) -> F32Array:
        """Rows ``start:stop`` as contiguous float32: (stop - start, inputs), or (stop - start,) for a vector."""

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> F32Array:
        """The rows of a matrix at ``indices``: (len(indices), inputs)."""


def vector(source: WeightSource, name: str) -> F32Array:
    """A whole vector (norm weight, bias)."""
    return source.rows(name, 0, source.shape(name)[0])


def row_blocks(shape: tuple[int, ...], block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive row blocks of a matrix, each about ``block_bytes`` as float32."""
    rows, width = shape[0], shape[1] if len(shape) > 1 else 1
    step = max(1, block_bytes // (4 * width))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
