"""A bundle's tensors as float32: what the stored integers mean. The reference engine reads weights through this."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.errors import BundleError
from edgeslm.formats import FORMATS
from edgeslm.formats.base import Parts
from edgeslm.weights import F32Array


class BundleWeights:
    """A :class:`~edgeslm.weights.WeightSource` over the tensor table of one target."""

    def __init__(self, bundle: Bundle, target: str = "onnx") -> None:
        self._tensors = bundle.target(target).tensors
        if not self._tensors:
            raise BundleError(f"{bundle.folder}: target {target!r} has no tensor table")
        files = {name: np.frombuffer(bundle.map(name), np.uint8) for name in {t.file for t in self._tensors.values()}}
        self._parts = {name: self._views(name, files) for name in self._tensors}

    def _views(self, name: str, files: dict[str, npt.NDArray[np.uint8]]) -> Parts:
        tensor = self._tensors[name]
        layout = FORMATS[tensor.format].layout(tensor.shape, tensor.group_size)
        views: Parts = {}
        for key, part in tensor.parts.items():
            raw = files[tensor.file][part.offset : part.offset + part.bytes]
            views[key] = raw.view(layout[key].dtype).reshape(layout[key].shape)
        return views

    def _decode(self, name: str, parts: Parts, count: int) -> F32Array:
        tensor = self._tensors[name]
        return FORMATS[tensor.format].decode(parts, (count, *tensor.shape[1:]), tensor.group_size)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def rows(self, name: str, start: int, stop: int) -> F32Array:
        return self._decode(name, {k: v[start:stop] for k, v in self._parts[name].items()}, stop - start)

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> F32Array:
        return self._decode(name, {k: v[indices] for k, v in self._parts[name].items()}, len(indices))
