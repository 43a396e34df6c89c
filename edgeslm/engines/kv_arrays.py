"""Keys and values of layers as the arrays of a saved session: ``0.key``, ``0.value``, ``1.key``, …

Where they are kept as bytes, ``0.key_scale``, ``0.value_scale``, … hold a float32 for each row of each head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.engines.protocol import Arrays
from edgeslm.errors import SessionFileError

Array = npt.NDArray[Any]
Layer = tuple[Array, ...]
Kind = tuple[np.dtype[Any], tuple[int, ...]]
PARTS = ("key", "value", "key_scale", "value_scale")
DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "int8": np.dtype(np.int8)}


def layer_kinds(kv_type: str, shape: tuple[int, ...]) -> list[Kind]:
    """Types and shapes of a layer's arrays, whose keys and values have ``shape``: (n_kv_heads, rows, head_dim)."""
    kinds: list[Kind] = [(DTYPES[kv_type], shape)] * 2
    return [*kinds, *[(DTYPES["f32"], shape[:2])] * 2] if kv_type == "int8" else kinds


def pack(layers: Iterable[Layer]) -> Arrays:
    """The arrays of each layer, by name."""
    return {f"{i}.{part}": x for i, layer in enumerate(layers) for part, x in zip(PARTS, layer, strict=False)}


def unpack(arrays: Arrays, shapes: Sequence[tuple[int, ...]], kv_type: str = "f32") -> list[Layer]:
    """The opposite, from arrays of a stranger; ``shapes``: of each layer's keys and of its values.

    Raises:
        SessionFileError: they are not exactly those of :func:`layer_kinds`, or not finite.
    """
    layers = [layer_kinds(kv_type, shape) for shape in shapes]
    expected = {f"{i}.{p}": kind for i, kinds in enumerate(layers) for p, kind in zip(PARTS, kinds, strict=False)}
    if set(arrays) != set(expected):
        missing, unknown = (sorted(a - b)[:4] for a, b in ((set(expected), set(arrays)), (set(arrays), set(expected))))
        raise SessionFileError(f"saved session: arrays missing {missing}, unknown {unknown}")
    for name, (dtype, shape) in expected.items():
        found = arrays[name]
        if found.shape != shape or found.dtype != dtype:
            raise SessionFileError(
                f"saved session: {name}: expected {dtype} {shape}, found {found.dtype} {found.shape}"
            )
        if dtype.kind == "f" and not np.isfinite(found).all():
            raise SessionFileError(f"saved session: {name}: has values that are not finite")
    return [tuple(arrays[f"{i}.{p}"] for p, _ in zip(PARTS, kinds, strict=False)) for i, kinds in enumerate(layers)]
