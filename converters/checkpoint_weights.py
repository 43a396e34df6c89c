"""A checkpoint's tensors under their canonical names, turned into float32 block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.converters.safetensors_file import StoredTensor
from edgeslm.errors import CheckpointError
from edgeslm.spec import DecoderSpec, tensor_shapes
from edgeslm.weights import F32Array

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_SHOWN = 12  # names listed per kind of mismatch


@dataclass(frozen=True)
class Stored:
    """Where a canonical weight comes from: rows of a stored tensor, times ``scale``, plus ``offset``."""

    tensor: str  # name in the checkpoint
    first_row: int = 0  # of a tensor that holds several weights; 0 for one of its own
    scale: float = 1.0
    offset: float = 0.0


class CheckpointWeights:
    """A :class:`~edgeslm.weights.WeightSource` over mapped safetensors."""

    def __init__(
        self, spec: DecoderSpec, stored: Mapping[str, Stored], tensors: Mapping[str, StoredTensor], where: str
    ) -> None:
        """Every weight of ``spec`` must be there in its shape, and ``tensors`` must hold nothing else.

        Raises:
            CheckpointError: lists all missing, unexpected and misshapen tensors at once, or names those of a
                dtype that is not read.
        """
        self._shapes = tensor_shapes(spec)
        self._stored = {name: stored[name] for name in self._shapes}
        _check_match(_expected_shapes(self._shapes, self._stored), tensors, where)
        self._tensors = {s.tensor: tensors[s.tensor] for s in self._stored.values()}
        others = sorted(f"{k} ({t.dtype})" for k, t in self._tensors.items() if t.dtype not in _DTYPES)
        if others:
            raise CheckpointError(
                f"{where}: expected {', '.join(_DTYPES)}, found {_listed(others)}: "
                "use the original checkpoint, not a quantised one"
            )
        self._arrays = {k: t.data.view(_DTYPES[t.dtype]).reshape(t.shape) for k, t in self._tensors.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def rows(self, name: str, start: int, stop: int) -> F32Array:
        first = self._stored[name].first_row
        return self._float32(name, self._arrays[self._stored[name].tensor][first + start : first + stop])

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> F32Array:
        return self._float32(name, self._arrays[self._stored[name].tensor][indices + self._stored[name].first_row])

    def _float32(self, name: str, block: npt.NDArray[np.generic]) -> F32Array:
        """Widened, checked and transformed. Raises CheckpointError where a value is not finite."""
        stored = self._stored[name]
        values = widen(block)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self._tensors[stored.tensor].path}: {stored.tensor} holds NaN or infinity: the checkpoint "
                "is damaged; get it again"
            )
        if stored.scale != 1:
            values = values * np.float32(stored.scale)
        if stored.offset:
            values = values + np.float32(stored.offset)
        return values


def widen(block: npt.NDArray[np.generic]) -> F32Array:
    """Stored values (float32, float16, or bfloat16 as uint16) as aligned, contiguous float32."""
    if block.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        wide = block.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return np.require(block, np.float32, ("ALIGNED", "C_CONTIGUOUS"))


def _expected_shapes(shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored]) -> dict[str, tuple[int, ...]]:
    """Checkpoint name → shape; a tensor of several weights is as long as the last of them reaches."""
    expected: dict[str, tuple[int, ...]] = {}
    for name, source in stored.items():
        rows, *rest = shapes[name]
        known = expected.get(source.tensor, (0,))[0]
        expected[source.tensor] = (max(known, source.first_row + rows), *rest)
    return expected


def _check_match(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, StoredTensor], where: str) -> None:
    problems = {
        "missing": sorted(set(expected) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(expected)),
        "misshapen": [
            f"{name} {list(tensors[name].shape)} (expected {list(shape)})"
            for name, shape in sorted(expected.items())
            if name in tensors and tensors[name].shape != shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(f"{where}: the tensors do not match config.json. {found}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
