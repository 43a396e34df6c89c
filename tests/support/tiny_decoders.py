"""Tiny decoders with seeded weights in which nothing sits at its default, and bundles made of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.converters.convert import TARGETS
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import stage
from edgeslm.manifest import Manifest
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope, tensor_shapes
from edgeslm.weights import WeightSource

F32Array = npt.NDArray[np.float32]


class ArraySource:
    """Weights held in memory."""

    def __init__(self, arrays: dict[str, F32Array]) -> None:
        self.arrays = arrays

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def rows(self, name: str, start: int, stop: int) -> F32Array:
        return np.ascontiguousarray(self.arrays[name][start:stop])

    def take(self, name: str, indices: npt.NDArray[np.integer]) -> F32Array:
        return self.arrays[name][indices]


def make_rope(width: int, **changes: Any) -> Rope:
    """Default frequencies of a rotary width."""
    inv_freq = 1 / 10000 ** (np.arange(0, width, 2) / width)
    return Rope(tuple(float(f) for f in inv_freq.astype(np.float32)), **changes)


def make_spec(
    *, hidden: int = 64, heads: int = 4, kv_heads: int = 2, head_dim: int = 16, rotary: int = 0, inner: int = 96,
    vocab: int = 130, context: int = 64, layers: int = 2, mlp_bias: bool = False, act: str = "silu",
    norm_out: bool = False, rope: Rope | None = None, tied: bool = True,
    attention: dict[str, Any] | None = None, **changes: Any,
) -> DecoderSpec:  # fmt: skip
    """A small decoder; ``attention`` holds further fields of its mixer, ``changes`` of the spec."""
    values = {"scale": head_dim**-0.5, "rope": 0, **(attention or {})}
    block = Block(Attention(heads, kv_heads, head_dim, **values), Mlp(inner, act, mlp_bias), norm_out=norm_out)
    ropes = (rope or make_rope(rotary or head_dim),)
    return DecoderSpec(vocab, hidden, 1e-5, context, (block,), (0,) * layers, ropes, tied, **changes)


def make_weights(spec: DecoderSpec, seed: int = 0) -> ArraySource:
    """Norms around 1, biases not 0, matrices that peak the attention; they follow from names and shapes alone."""
    arrays = {}
    for name, shape in tensor_shapes(spec).items():
        x = np.random.default_rng([seed, *name.encode()]).standard_normal(shape)
        if "norm" in name:
            x = 1 + 0.1 * x
        elif len(shape) == 1:
            x = 0.3 * x
        else:
            x *= 0.5 if name == "embed" else 2 / shape[1] ** 0.5
        arrays[name] = x.astype(np.float32)
    return ArraySource(arrays)


def make_ids(spec: DecoderSpec, count: int, seed: int = 1) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, spec.vocab_size, count)


def write_bundle(folder: Path, spec: DecoderSpec, weights: WeightSource, options: Options, *to: str) -> Bundle:
    """A bundle with the targets ``to`` ("onnx" if none is named), and no tokenizer; the last id ends a text."""
    config = {"eos_token_id": spec.vocab_size - 1}
    names = {"source": "tiny", "model_type": "tiny", "licence": None, "config": {}, "folder": folder}
    source: Any = SimpleNamespace(spec=spec, weights=weights, generation_config=config, **names)
    with stage(folder, None) as staging:
        targets = {n: TARGETS[n].write(source, options, staging, lambda *done: None) for n in to or ("onnx",)}
        staging.commit(Manifest(spec, dict(staging.files), targets))
    return Bundle.open(folder)


def relative_error(found: F32Array, expected: F32Array) -> float:
    """Largest difference over the largest magnitude expected; infinite where a value is not finite."""
    assert found.shape == expected.shape
    error = float(np.abs(found - expected).max()) / float(np.abs(expected).max())
    return error if np.isfinite(error) else float("inf")


def replace_rope(spec: DecoderSpec, **changes: Any) -> DecoderSpec:
    return dataclasses.replace(spec, ropes=(dataclasses.replace(spec.ropes[0], **changes), *spec.ropes[1:]))


def replace_block(spec: DecoderSpec, **changes: Any) -> DecoderSpec:
    return dataclasses.replace(spec, blocks=(dataclasses.replace(spec.blocks[0], **changes), *spec.blocks[1:]))


def replace_attention(spec: DecoderSpec, **changes: Any) -> DecoderSpec:
    return replace_block(spec, mixer=dataclasses.replace(spec.blocks[0].mixer, **changes))


def replace_mlp(spec: DecoderSpec, **changes: Any) -> DecoderSpec:
    return replace_block(spec, mlp=dataclasses.replace(spec.blocks[0].mlp, **changes))
