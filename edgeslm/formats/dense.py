"""Float formats: the values themselves."""

from __future__ import annotations

from edgeslm.formats.base import F32Array, Format, Part, Parts
from edgeslm.lazy_numpy import np


class _Dense(Format):
    grouped = False
    dtype: str

    def layout(self, shape: tuple[int, ...], group_size: int) -> dict[str, Part]:
        return {"data": Part(self.dtype, shape)}

    def encode(self, rows: F32Array, group_size: int) -> Parts:
        return {"data": rows.astype(self.dtype)}

    def decode(self, parts: Parts, shape: tuple[int, ...], group_size: int) -> F32Array:
        return parts["data"].astype(np.float32, copy=False).reshape(shape)


class F32(_Dense):
    """IEEE single precision."""

    name = "f32"
    dtype = "<f4"


class F16(_Dense):
    """IEEE half precision; values beyond ±65504 saturate rather than become infinite."""

    name = "f16"
    dtype = "<f2"

    def encode(self, rows: F32Array, group_size: int) -> Parts:
        limit = np.float32(np.finfo(np.float16).max)
        return super().encode(np.clip(rows, -limit, limit), group_size)
