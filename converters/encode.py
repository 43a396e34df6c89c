"""Rows of weights as a format stores them."""

from __future__ import annotations

import importlib.util

from edgeslm.formats import FORMATS, GROUP_SIZES, Parts
from edgeslm.formats.base import F32Array

HAS_KERNELS = importlib.util.find_spec("edgeslm._native") is not None


def encode(format: str, rows: F32Array, group_size: int) -> Parts:
    """As ``FORMATS[format].encode``; by the native kernels, which are many times faster, where there are any."""
    if group_size not in GROUP_SIZES or not HAS_KERNELS:
        return FORMATS[format].encode(rows, group_size)
    from edgeslm import _native

    data, scales = _native.quantize(format, None, rows, group_size)
    return {"data": data, "scales": scales}
