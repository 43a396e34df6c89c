"""The oracle as an engine, and that it heeds every field of the spec; its numbers are held in families/."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from edgeslm.engines.protocol import Engine
from edgeslm.engines.reference import NumpyBuilder, ReferenceEngine, gelu, gelu_tanh, rotate, silu
from edgeslm.engines.session import Session
from edgeslm.errors import ArgumentError, ContextLengthError, EngineError
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope, tensor_shapes
from edgeslm.weights import BLOCK_BYTES

INV_FREQ = (1.0, 0.4, 0.1)
SPEC = DecoderSpec(
    vocab_size=40,
    hidden=24,
    norm_eps=0.01,
    context_length=64,
    blocks=(
        Block(
            Attention(4, 2, 8, 0.3, 0, window=7, qk_norm="head", softcap=3.0),
            Mlp(20, "gelu_tanh"),
            norm_out=True,
        ),
        Block(Attention(4, 1, 8, 0.3, 1, qk_norm="full", qkv_bias=True, out_bias=True), Mlp(16, bias=True)),
    ),
    layout=(0, 1, 0),
    ropes=(
        Rope(INV_FREQ, scale=1.2, q_beta=0.2, q_period=5),
        Rope(INV_FREQ, 1.1, long_inv_freq=(0.5, 0.2, 0.1), long_scale=1.3, switch_at=16),
    ),
    embed_scale=2.0,
    logit_softcap=4.0,
    residual_scale=0.5,
)
IDS = [int(i) for i in np.random.RandomState(0).randint(0, SPEC.vocab_size, 30)]


class RandomWeights:
    """Seeded weights of any spec, each by its name."""

    def __init__(self, spec: DecoderSpec) -> None:
        self.arrays = {name: self._make(name, shape) for name, shape in tensor_shapes(spec).items()}

    def _make(self, name: str, shape: tuple[int, ...]) -> Any:
        values = np.random.RandomState(list(name.encode())).standard_normal(shape)
        return (1 + 0.3 * values if "norm" in name else values / np.sqrt(shape[-1])).astype(np.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def rows(self, name: str, start: int, stop: int) -> Any:
        return self.arrays[name][start:stop]

    def take(self, name: str, indices: Any) -> Any:
        return self.arrays[name][indices]


@pytest.fixture
def engine() -> ReferenceEngine:
    return ReferenceEngine(SPEC, RandomWeights(SPEC))


def logits_of(spec: DecoderSpec) -> Any:
    return ReferenceEngine(spec, RandomWeights(spec)).new_session().forward(IDS, "all")


def test_large_matrices_are_read_in_blocks() -> None:
    """A row of the matrix is its own number, so that a block in the wrong place shows."""
    asked = []

    class Wide(RandomWeights):
        def shape(self, name: str) -> tuple[int, ...]:
            return (200_001, 64)

        def rows(self, name: str, start: int, stop: int) -> Any:
            asked.append(stop - start)
            return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 64, axis=1)

    x = np.full((1, 64), 1 / 64, np.float32)
    builder = NumpyBuilder(SPEC, Wide(SPEC), [], np.array([1], np.int32), 0)
    np.testing.assert_array_equal(builder.linear(x, "any")[0], np.arange(200_001, dtype=np.float32))
    assert sum(asked) == 200_001 and max(asked) * 64 * 4 <= BLOCK_BYTES


def test_it_is_an_engine(engine: ReferenceEngine) -> None:
    as_protocol: Engine = engine
    session: Session = as_protocol.new_session()
    assert (engine.name, engine.isa, session.length) == ("reference", "", 0)


def test_rows(engine: ReferenceEngine) -> None:
    every = engine.new_session().forward(IDS, "all")
    last = engine.new_session().forward(np.array(IDS))
    assert every.shape == (30, 40) and last.shape == (1, 40) and every.dtype == np.float32
    np.testing.assert_allclose(last, every[-1:], rtol=1e-5, atol=1e-5)
    with pytest.raises(ArgumentError, match="rows"):
        engine.new_session().forward(IDS, "first")  # type: ignore[arg-type]


@pytest.mark.parametrize("cuts", [[1] * 30, [6, 7, 8, 9], [17, 1, 12]])
def test_a_run_does_not_depend_on_its_cuts(engine: ReferenceEngine, cuts: list[int]) -> None:
    whole = engine.new_session().forward(IDS, "all")
    session, rows, start = engine.new_session(), [], 0
    for size in cuts:
        rows.append(session.forward(IDS[start : start + size], "all"))
        start += size
        assert session.length == start
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=2e-5)


@pytest.mark.parametrize("length", [0, 1, 6, 7, 8, 29, 30])
def test_truncate_forgets(engine: ReferenceEngine, length: int) -> None:
    session = engine.new_session()
    expected = session.forward(IDS, "all")
    session.truncate(length)
    assert session.length == length
    session.forward([1, 2, 3])
    session.truncate(length)
    if length < len(IDS):
        np.testing.assert_allclose(session.forward(IDS[length:], "all"), expected[length:], atol=2e-5)


def test_sessions_are_independent(engine: ReferenceEngine) -> None:
    one, other = engine.new_session(), engine.new_session()
    one.forward(IDS[:10])
    other.forward(IDS[5:20])
    np.testing.assert_allclose(one.forward(IDS[10:]), engine.new_session().forward(IDS), atol=2e-5)


@pytest.mark.parametrize(
    "ids",
    [[], [40], [-1], [1, 2**40], [1.0], ["1"], [True], [[1]], [[1], [1, 2]], [2**70], 5, None, "12", [None]],
)
def test_bad_ids_leave_the_session_as_it_was(engine: ReferenceEngine, ids: Any) -> None:
    session = engine.new_session()
    session.forward(IDS[:5])
    with pytest.raises(ArgumentError, match="token id"):
        session.forward(ids)
    assert session.length == 5
    np.testing.assert_allclose(session.forward(IDS[5:]), engine.new_session().forward(IDS), atol=2e-5)


def test_the_context_ends(engine: ReferenceEngine) -> None:
    session = engine.new_session()
    session.forward([1] * 63)
    with pytest.raises(ContextLengthError, match=r"63 \+ 2 tokens do not fit the context of 64"):
        session.forward([1, 1])
    assert session.forward([1]).shape == (1, 40) and session.length == 64


@pytest.mark.parametrize("length", [-1, 6])
def test_truncate_checks(engine: ReferenceEngine, length: int) -> None:
    session = engine.new_session()
    session.forward(IDS[:5])
    with pytest.raises(ArgumentError, match=r"0\.\.5"):
        session.truncate(length)


def test_closed(engine: ReferenceEngine) -> None:
    session, other = engine.new_session(), engine.new_session()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.forward([1])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        other.forward([1])


def test_tap_sees_the_residual_of_each_layer() -> None:
    seen = {}
    engine = ReferenceEngine(SPEC, RandomWeights(SPEC), tap=lambda name, value: seen.update({name: value.shape}))
    engine.new_session().forward(IDS[:4])
    assert seen == {f"layers.{i}": (4, 24) for i in range(3)}


def changed_block(index: int, **mixer: Any) -> DecoderSpec:
    blocks = list(SPEC.blocks)
    blocks[index] = replace(blocks[index], mixer=replace(blocks[index].mixer, **mixer))
    return replace(SPEC, blocks=tuple(blocks))


def changed_mlp(**mlp: Any) -> DecoderSpec:
    return replace(SPEC, blocks=(replace(SPEC.blocks[0], mlp=replace(SPEC.blocks[0].mlp, **mlp)), SPEC.blocks[1]))


def changed_norms(**norms: bool) -> DecoderSpec:
    spec = replace(SPEC, residual_scale=1.0)
    return replace(spec, blocks=(replace(SPEC.blocks[0], **norms), SPEC.blocks[1]))


def changed_rope(index: int, **rope: Any) -> DecoderSpec:
    ropes = list(SPEC.ropes)
    ropes[index] = replace(ropes[index], **rope)
    return replace(SPEC, ropes=tuple(ropes))


# Each field of the spec that shapes do not pin, changed a little.
MUTATIONS: dict[str, DecoderSpec] = {
    "norm_eps": replace(SPEC, norm_eps=0.02),
    "layout": replace(SPEC, layout=(0, 1, 1)),
    "tied": replace(SPEC, tied=True),
    "embed_scale": replace(SPEC, embed_scale=2.1),
    "logit_softcap": replace(SPEC, logit_softcap=0.0),
    "residual_scale": replace(SPEC, residual_scale=0.25),
    "scale": changed_block(0, scale=0.31),
    "rope": changed_block(0, rope=-1),
    "rope index": changed_block(0, rope=1),
    "window": changed_block(0, window=8),
    "no window": changed_block(0, window=0),
    "qk_norm": changed_block(0, qk_norm=""),
    "qk_norm full": changed_block(0, qk_norm="full"),
    "softcap": changed_block(0, softcap=3.1),
    "qkv_bias": changed_block(1, qkv_bias=False),
    "out_bias": changed_block(1, out_bias=False),
    "act": changed_mlp(act="gelu"),
    "bias": changed_mlp(bias=True),
    "norm_in": changed_norms(norm_in=False),
    "norm_out": changed_norms(norm_out=False),
    "inv_freq": changed_rope(0, inv_freq=(1.0, 0.41, 0.1)),
    "rotary width": changed_rope(0, inv_freq=(*INV_FREQ, 0.05)),
    "rope scale": changed_rope(0, scale=1.21),
    "q_beta": changed_rope(0, q_beta=0.21),
    "q_period": changed_rope(0, q_period=6),
    "long_inv_freq": changed_rope(1, long_inv_freq=(0.5, 0.21, 0.1)),
    "long_scale": changed_rope(1, long_scale=1.31),
    "switch_at": changed_rope(1, switch_at=64),
}


@pytest.mark.parametrize("field", MUTATIONS)
def test_no_field_is_ignored(field: str) -> None:
    plain = changed_norms() if field in ("norm_in", "norm_out") else SPEC
    difference = np.abs(logits_of(MUTATIONS[field]) - logits_of(plain)).max()
    assert difference > 1e-4


def test_the_mutations_cover_the_spec() -> None:
    pinned = {
        "vocab_size",
        "hidden",
        "context_length",
        "blocks",
        "ropes",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "inner",
    }
    names = {f.name for kind in (DecoderSpec, Block, Attention, Mlp, Rope) for f in fields(kind)}
    assert names - pinned - {"mixer", "mlp"} <= set(MUTATIONS)


def test_longrope_regime_belongs_to_the_session() -> None:
    """A context within switch_at keeps to the short factors; a longer one uses the long ones at once."""
    short = logits_of(replace(SPEC.with_context(30), ropes=(SPEC.ropes[0], replace(SPEC.ropes[1], switch_at=30))))
    plain = replace(SPEC.ropes[1], long_inv_freq=(), long_scale=1.0, switch_at=0)
    np.testing.assert_array_equal(short, logits_of(replace(SPEC, ropes=(SPEC.ropes[0], plain))))
    as_long = replace(plain, inv_freq=SPEC.ropes[1].long_inv_freq, scale=SPEC.ropes[1].long_scale)
    np.testing.assert_array_equal(logits_of(SPEC), logits_of(replace(SPEC, ropes=(SPEC.ropes[0], as_long))))


def test_activations() -> None:
    """Values from the definitions, at high precision."""
    x = np.array([-200.0, -1.0, 0.0, 0.5, 3.0], np.float32)
    np.testing.assert_allclose(silu(x), [0, -0.26894142, 0, 0.31122967, 2.85772238], atol=1e-7)
    np.testing.assert_allclose(gelu(x), [0, -0.15865525, 0, 0.34573123, 2.99595031], atol=1e-7)
    np.testing.assert_allclose(gelu_tanh(x), [0, -0.15880801, 0, 0.34571401, 2.99636289], atol=5e-7)


def test_rotation_is_half_split_and_leaves_the_rest() -> None:
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    quarter_turn = rotate(x, np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert quarter_turn.ravel().tolist() == [-3, -4, 1, 2, 5]
