"""Random tiny decoders over all fields of the spec, stored in any format, for engine tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.engines.native import NativeEngine
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.formats import FORMATS, halve_scales, scale_exponent
from edgeslm.manifest import PartEntry, TensorEntry
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope, tensor_shapes

Array = npt.NDArray[np.float32]
FILE = "weights"


def frequencies(half: int, theta: float = 10000.0) -> tuple[float, ...]:
    """Rotary frequencies of a plain rope."""
    return tuple(float(theta ** (-i / half)) for i in range(half))


def make_spec(
    hidden: int = 48, context: int = 640, layers: int = 2, attention: Any = None, block: Any = None, **fields: Any
) -> DecoderSpec:
    """A small decoder; ``attention``, ``block`` and ``fields`` override single fields."""
    a = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 20, "scale": 0.3, "rope": 0, **(attention or {})}
    b = {"mixer": Attention(**a), "mlp": Mlp(70), **(block or {})}
    values = {
        "vocab_size": 97,
        "hidden": hidden,
        "norm_eps": 1e-3,
        "context_length": context,
        "blocks": (Block(**b),),
        "layout": (0,) * layers,
        "ropes": (Rope(frequencies(a["head_dim"] // 2)),),
        **fields,
    }
    return DecoderSpec(**values)


def make_weights(spec: DecoderSpec, seed: int = 0) -> dict[str, Array]:
    """Seeded weights in which nothing sits at its default: norms away from 1, biases away from 0, peaked attention."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in tensor_shapes(spec).items():
        w = rng.standard_normal(shape)
        if name.endswith("norm") or "norm_" in name or name == "norm":
            w = 1 + 0.4 * w
        elif len(shape) == 1:
            w = 0.5 * w
        else:
            w = w * (2.0 if name.endswith((".q", ".k")) else 1.0) / np.sqrt(shape[1])
        weights[name] = w.astype(np.float32)
    return weights


class DictWeights:
    """A WeightSource over arrays."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights[name].shape

    def rows(self, name: str, start: int, stop: int) -> Array:
        return self._weights[name][start:stop]

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> Array:
        return self._weights[name][indices]


def store(
    weights: dict[str, Array], form: str | Callable[[str], str] = "f32", group: int = 32
) -> tuple[dict[str, TensorEntry], npt.NDArray[np.uint8], dict[str, Array]]:
    """Matrices in a format (or one by name), vectors in f32 → (tensor table, file, the weights as stored, float32)."""
    entries, chunks, stored, at = {}, [], {}, 0
    for name, w in weights.items():
        f = FORMATS["f32" if w.ndim == 1 else form if isinstance(form, str) else form(name)]
        g = group if f.grouped else 0
        parts = {}
        encoded, exponent = f.encode(w, g), 0
        if g:
            exponent = scale_exponent(float(np.abs(encoded["scales"]).max()))
            encoded["scales_f16"], _ = halve_scales(encoded["scales"], exponent)
        for key, array in encoded.items():
            raw = np.ascontiguousarray(array).view(np.uint8).ravel()
            parts[key] = PartEntry(at, raw.size)
            padding = -raw.size % 16
            chunks.append(np.pad(raw, (0, padding)))
            at += raw.size + padding
        entries[name] = TensorEntry(f.name, w.shape, g, FILE, parts, exponent)
        stored[name] = f.decode(encoded, w.shape, g)
    file = np.empty(at + 16, np.uint8)
    file = file[-file.ctypes.data % 16 :][:at]
    np.concatenate(chunks, out=file)
    file.flags.writeable = False
    return entries, file, stored


def open_pair(
    spec: DecoderSpec,
    form: str | Callable[[str], str] = "f32",
    group: int = 32,
    threads: int = 2,
    seed: int = 0,
    kv_dtype: str = "f32",
) -> tuple[NativeEngine, ReferenceEngine]:
    """The native engine and the oracle on the same stored weights."""
    entries, file, stored = store(make_weights(spec, seed), form, group)
    native = NativeEngine.from_tensors(spec, entries, {FILE: memoryview(file)}, threads, kv_dtype=kv_dtype)
    return native, ReferenceEngine(spec, DictWeights(stored))


def random_ids(spec: DecoderSpec, n: int, seed: int = 1) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, spec.vocab_size, n).astype(np.int32)


def error(found: Array, expected: Array) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    assert np.isfinite(found).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())
