"""Keys and values of layers as the arrays of a saved session: ``0.key``, ``0.value``, ``1.key``, …"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.engines.protocol import Arrays
from edgeslm.errors import SessionFileError

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]


def pack(layers: Iterable[Pair]) -> Arrays:
    """Keys and values of each layer, by name."""
    return {f"{i}.{part}": x for i, pair in enumerate(layers) for part, x in zip(("key", "value"), pair, strict=True)}


def unpack(arrays: Arrays, shapes: Sequence[tuple[int, ...]]) -> list[Pair]:
    """The opposite, from arrays of a stranger; ``shapes``: of each layer's keys and of its values.

    Raises:
        SessionFileError: they are not exactly these, float32 and finite.
    """
    expected = {f"{i}.{part}": shape for i, shape in enumerate(shapes) for part in ("key", "value")}
    if set(arrays) != set(expected):
        missing, unknown = (sorted(a - b)[:4] for a, b in ((set(expected), set(arrays)), (set(arrays), set(expected))))
        raise SessionFileError(f"saved session: arrays missing {missing}, unknown {unknown}")
    for name, shape in expected.items():
        found = arrays[name]
        if found.shape != shape or found.dtype != np.float32:
            raise SessionFileError(
                f"saved session: {name}: expected float32 {shape}, found {found.dtype} {found.shape}"
            )
        if not np.isfinite(found).all():
            raise SessionFileError(f"saved session: {name}: has values that are not finite")
    return [(arrays[f"{i}.key"], arrays[f"{i}.value"]) for i in range(len(shapes))]
