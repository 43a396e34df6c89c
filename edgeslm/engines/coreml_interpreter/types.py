"""Element types and tensor types of MIL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Dims = tuple[int | None, ...]  # None: known when running

# Names as in Apple's op definitions. The 4-bit types are held one element a byte once they have been read.
NUMPY: dict[str, np.dtype[Any]] = {
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "uint16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "int4": np.dtype("i1"),
    "uint4": np.dtype("u1"),
}
MAX_RANK = 5  # Core ML refuses more, constants apart


class OpError(Exception):
    """What is wrong with an operation; the interpreter says which one."""


@dataclass(frozen=True)
class TensorType:
    """An element type ("string" for text) and a shape."""

    dtype: str
    shape: Dims = ()

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"

    @property
    def size(self) -> int:
        """Number of elements, each unknown dimension counted as one."""
        count = 1
        for dim in self.shape:
            count *= 1 if dim is None else dim
        return count

    def check(self, array: Array, name: str) -> None:
        """OpError unless ``array`` is of this type."""
        fits = array.ndim == len(self.shape) and all(
            d is None or d == n for d, n in zip(self.shape, array.shape, strict=True)
        )
        if array.dtype != NUMPY[self.dtype] or not fits:
            raise OpError(f"{name} is declared {self}, and comes out as {array.dtype}{list(array.shape)}")


def f32(array: Array) -> npt.NDArray[np.float32]:
    """As float32; no copy if it is."""
    return np.asarray(array, np.float32)
