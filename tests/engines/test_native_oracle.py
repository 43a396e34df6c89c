"""The native engine against the oracle, over every field of the spec and every weight format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeslm.decoder import build
from edgeslm.engines.reference import KvCache, NumpyBuilder, ReferenceEngine
from edgeslm.formats import FORMATS
from edgeslm.spec import Block, DecoderSpec, Mlp, Rope

from .tiny import error, frequencies, make_spec, open_pair, random_ids

Mutation = Callable[[], DecoderSpec]


def _rope(**fields: Any) -> tuple[Rope, ...]:
    return (dataclasses.replace(Rope(frequencies(10)), **fields),)


BASE = make_spec
MUTATIONS: dict[str, Mutation] = {
    "n_heads": lambda: make_spec(attention={"n_heads": 8}),
    "one_kv_head": lambda: make_spec(attention={"n_kv_heads": 1}),
    "no_sharing": lambda: make_spec(attention={"n_kv_heads": 4}),
    "head_dim": lambda: make_spec(attention={"head_dim": 8}),
    "wide_head": lambda: make_spec(attention={"head_dim": 132}),
    "scale": lambda: make_spec(attention={"scale": 0.2}),
    "no_rope": lambda: make_spec(attention={"rope": -1}),
    "partial_rope": lambda: make_spec(ropes=(Rope(frequencies(3)),)),
    "window": lambda: make_spec(attention={"window": 7}),
    "qk_norm_head": lambda: make_spec(attention={"qk_norm": "head"}),
    "qk_norm_full": lambda: make_spec(attention={"qk_norm": "full"}),
    "softcap": lambda: make_spec(attention={"softcap": 1.5}),
    "qkv_bias": lambda: make_spec(attention={"qkv_bias": True}),
    "out_bias": lambda: make_spec(attention={"out_bias": True}),
    "inner": lambda: make_spec(block={"mlp": Mlp(33)}),
    "gelu": lambda: make_spec(block={"mlp": Mlp(70, "gelu")}),
    "gelu_tanh": lambda: make_spec(block={"mlp": Mlp(70, "gelu_tanh")}),
    "mlp_bias": lambda: make_spec(block={"mlp": Mlp(70, bias=True)}),
    "norm_out": lambda: make_spec(block={"norm_out": True}),
    "norm_out_only": lambda: make_spec(block={"norm_in": False, "norm_out": True}),
    "frequencies": lambda: make_spec(ropes=(Rope(frequencies(10, 50.0)),)),
    "rope_scale": lambda: make_spec(ropes=_rope(scale=1.3)),
    "long_rope": lambda: make_spec(ropes=_rope(long_inv_freq=frequencies(10, 90.0), long_scale=1.2, switch_at=100)),
    "long_rope_unused": lambda: make_spec(
        ropes=_rope(long_inv_freq=frequencies(10, 90.0), long_scale=1.2, switch_at=640)
    ),
    "q_beta": lambda: make_spec(ropes=_rope(q_beta=0.4, q_period=5)),
    "q_period": lambda: make_spec(ropes=_rope(q_beta=0.4, q_period=9)),
    "hidden": lambda: make_spec(hidden=37),
    "norm_eps": lambda: make_spec(norm_eps=0.5),
    "layout": lambda: make_spec(layers=3),
    "two_blocks": lambda: make_spec(
        blocks=(make_spec().blocks[0], _other_block()),
        layout=(0, 1, 0),
        ropes=(Rope(frequencies(10)), Rope(frequencies(4, 300.0), scale=1.1)),
    ),
    "tied": lambda: make_spec(tied=True),
    "embed_scale": lambda: make_spec(embed_scale=3.5),
    "logit_softcap": lambda: make_spec(logit_softcap=0.7),
    "residual_scale": lambda: make_spec(residual_scale=0.03125, norm_eps=0.1),
    "vocab_size": lambda: make_spec(vocab_size=41),
}
# A mutation that must not change the output: the base decoder, written another way.
SAME_AS_BASE = {"long_rope_unused"}


def _other_block() -> Block:
    block = make_spec().blocks[0]
    other = dataclasses.replace(block.mixer, n_heads=3, n_kv_heads=3, head_dim=8, rope=1, window=5, qk_norm="head")
    return Block(other, Mlp(21, "gelu_tanh"), norm_out=True)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_field_is_honoured(name: str) -> None:
    spec = MUTATIONS[name]()
    native, reference = open_pair(spec)
    ids = random_ids(spec, 70) % 41
    found, expected = (e.new_session().forward(ids, "all") for e in (native, reference))
    assert error(found, expected) < 5e-5  # measured: at most 2.3e-5, with capped logits
    base, _ = open_pair(make_spec())
    plain = base.new_session().forward(ids, "all")
    if name in SAME_AS_BASE:
        assert np.array_equal(found, plain)
    else:
        assert found.shape != plain.shape or error(found, plain) > 1e-4, "the field changed nothing"


def test_all_fields_of_the_spec_are_mutated() -> None:
    """A new field of the spec must appear above: walk what the mutated specs differ in."""
    changed: set[str] = set()
    for mutate in MUTATIONS.values():
        changed |= set(_differences(dataclasses.asdict(make_spec()), dataclasses.asdict(mutate())))
    spec = make_spec(ropes=_rope())
    leaves = set(_leaves(dataclasses.asdict(spec)))
    assert leaves - changed == {"context_length"}


def _leaves(value: object, name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in _leaves(v, k)]
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return [leaf for v in value for leaf in _leaves(v, name)]
    return [name]


def _differences(a: object, b: object, name: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in a for d in _differences(a[k], b[k], k)]
    if isinstance(a, tuple) and isinstance(b, tuple) and a and isinstance(a[0], dict):
        return [d for x, y in zip(a, b, strict=False) for d in _differences(x, y, name)]
    return [] if a == b else [name]


class Int8Activations(NumpyBuilder):
    """The oracle with the input of every quantised matrix rounded as the kernels' packing rounds it."""

    formats: Callable[[str], str]
    group: int

    def linear(self, x: Any, weight: str, bias: bool = False) -> Any:
        return super().linear(self._round(x) if FORMATS[self.formats(weight)].grouped else x, weight, bias)

    def _round(self, x: Any) -> Any:
        m, k = x.shape
        groups = np.pad(x, ((0, 0), (0, -k % self.group))).reshape(m, -1, self.group)
        scale = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
        values = np.rint(groups / np.where(scale == 0, 1, scale))
        return (values * scale).reshape(m, -1)[:, :k].astype(np.float32)


def _int8_logits(reference: ReferenceEngine, ids: Any, form: str, group: int) -> Any:
    assert reference.source is not None
    caches = [KvCache(b.mixer) for b in reference.spec.layers]
    builder = Int8Activations(reference.spec, reference.source, caches, ids, 0)
    builder.formats, builder.group = (lambda name: form), group
    return build(reference.spec, builder)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("form", ["q8", "q4"])
@pytest.mark.parametrize(
    "spec",
    [
        make_spec(attention={"scale": 0.1}),
        make_spec(hidden=172, attention={"head_dim": 8, "n_kv_heads": 1}, tied=True),
        make_spec(hidden=33, attention={"qkv_bias": True, "window": 6}, block={"norm_out": True}),
    ],
    ids=["base", "odd", "window"],
)
def test_quantised_weights(spec: DecoderSpec, form: str, group: int) -> None:
    """Against the oracle whose activations are rounded alike: what remains is float order and rounding ties."""
    native, reference = open_pair(spec, form, group)
    ids = random_ids(spec, 40)
    found = native.new_session().forward(ids, "all")
    expected = _int8_logits(reference, ids, form, group)
    plain = reference.new_session().forward(ids, "all")
    assert error(found, expected) < 0.05
    assert np.median(np.abs(found - expected)) < 1e-4 * np.abs(expected).max()
    assert error(plain, expected) > error(found, expected)


def test_float16_weights() -> None:
    native, reference = open_pair(make_spec(hidden=51, attention={"qkv_bias": True}), "f16")
    ids = random_ids(native.spec, 50)
    assert error(*(e.new_session().forward(ids, "all") for e in (native, reference))) < 2e-5


def to_bytes(x: Any) -> Any:
    """Rows rounded to bytes times a scale of each."""
    peak = np.abs(x).max(axis=-1, keepdims=True)
    return np.rint(x * (np.float32(127) / peak)) * (peak / np.float32(127))


class ByteQueries(NumpyBuilder):
    """The oracle with queries as the native engine scores rows of bytes with them."""

    def _rotate(self, q: Any, k: Any, index: int) -> tuple[Any, Any]:
        q, k = super()._rotate(q, k, index)
        return to_bytes(q), k


class RoundedCache(KvCache):
    """The oracle's cache with rows rounded as the native engine stores them."""

    kv_dtype: str

    def append(self, start: int, k: Any, v: Any) -> Any:
        return super().append(start, self._round(k), self._round(v))

    def _round(self, x: Any) -> Any:
        return x.astype(np.float16).astype(np.float32) if self.kv_dtype == "f16" else to_bytes(x)


@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
@pytest.mark.parametrize(
    "attention", [{}, {"window": 30}, {"softcap": 1.5, "n_kv_heads": 1}], ids=["full", "window", "softcap"]
)
def test_rounded_keys_and_values(attention: Any, kv_dtype: str) -> None:
    """Against the oracle whose rows are rounded alike: what remains is float order, and what falls otherwise for it."""
    native, reference = open_pair(make_spec(attention=attention, layers=1), kv_dtype=kv_dtype)
    ids = random_ids(native.spec, 300)
    found = native.new_session().forward(ids, "all")
    assert reference.source is not None
    caches = [RoundedCache(b.mixer) for b in native.spec.layers]
    for cache in caches:
        cache.kv_dtype = kv_dtype
    oracle = ByteQueries if kv_dtype == "int8" else NumpyBuilder
    expected = build(native.spec, oracle(native.spec, reference.source, [*caches], ids, 0))
    plain = reference.new_session().forward(ids, "all")
    print(f"{kv_dtype}: {error(found, expected):.1e}, from unrounded rows {error(plain, expected):.1e}")
    assert error(found, expected) < {"f16": 1e-3, "int8": 5e-3}[kv_dtype]
    assert np.median(np.abs(found - expected)) < 2e-5 * np.abs(expected).max()
    assert error(plain, expected) > 3 * error(found, expected)


def test_formats_may_differ_from_tensor_to_tensor() -> None:
    """Merged linears need one format; where it differs, they stay apart."""

    def form(name: str) -> str:
        return {"q": "q8", "k": "f16", "v": "f32"}.get(name.rsplit(".", 1)[-1], "f32")

    native, reference = open_pair(make_spec(attention={"scale": 0.1}), form)
    ids = random_ids(native.spec, 20)
    found, expected = (e.new_session().forward(ids, "all") for e in (native, reference))
    assert error(found, expected) < 0.05


def test_rows_last_is_the_last_of_all() -> None:
    native, _ = open_pair(make_spec())
    ids = random_ids(native.spec, 300)
    every, last = (native.new_session().forward(ids, rows) for rows in ("all", "last"))  # type: ignore[arg-type]
    assert last.shape == (1, native.spec.vocab_size)
    assert np.array_equal(last[0], every[-1])
