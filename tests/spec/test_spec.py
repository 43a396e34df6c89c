"""The spec validates itself, survives JSON, and fits the decoder."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from edgeslm.builder import ShapeBuilder
from edgeslm.decoder import build
from edgeslm.errors import ModelFormatError
from edgeslm.spec import (
    Attention,
    Block,
    DecoderSpec,
    Mlp,
    Rope,
    parameter_count,
    spec_from_json,
    spec_to_json,
    tensor_shapes,
)

ATTENTION = Attention(4, 2, 8, 0.35, rope=0, qkv_bias=True, out_bias=True, qk_norm="head")
SPEC = DecoderSpec(
    vocab_size=40,
    hidden=24,
    norm_eps=1e-5,
    context_length=64,
    blocks=(
        Block(ATTENTION, Mlp(20, bias=True), norm_out=True),
        Block(
            dataclasses.replace(ATTENTION, qk_norm="full", window=8), Mlp(12, "gelu_tanh"), norm_in=False, norm_out=True
        ),
    ),
    layout=(0, 1, 0),
    ropes=(Rope((1.0, 0.1, 0.01)),),
)


@pytest.mark.parametrize("tied", [False, True])
def test_the_decoder_uses_every_tensor_once_and_widths_fit(tied: bool) -> None:
    spec = dataclasses.replace(SPEC, tied=tied)
    shapes = ShapeBuilder(spec)
    assert build(spec, shapes) == spec.vocab_size
    assert sorted(shapes.used) == sorted(tensor_shapes(spec))


def test_a_decoder_that_does_not_fit_is_caught() -> None:
    b = ShapeBuilder(SPEC)
    with pytest.raises(ModelFormatError, match="trailing shape"):
        b.linear(23, "layers.0.attn.q")
    with pytest.raises(ModelFormatError, match="widths"):
        b.attention(32, 16, 8, 0, ATTENTION)


def test_json_round_trip() -> None:
    assert spec_from_json(json.loads(json.dumps(spec_to_json(SPEC)))) == SPEC


def test_parameter_count_counts_tied_weights_once() -> None:
    tied = dataclasses.replace(SPEC, tied=True)
    assert parameter_count(SPEC) - parameter_count(tied) == SPEC.vocab_size * SPEC.hidden


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("hidden", -1),
        ("norm_eps", math.nan),
        ("context_length", 1 << 40),
        ("layout", (0,)),
        ("layout", (0, 1, 2)),
        ("embed_scale", 0.0),
        ("embed_scale", math.inf),
        ("logit_softcap", -1.0),
        ("residual_scale", 1.5),
        ("residual_scale", 0.5),
        ("ropes", ()),
        ("ropes", (Rope((1.0,) * 5),)),
        ("ropes", (Rope((math.inf,)),)),
        ("ropes", (Rope((1.0,), long_inv_freq=(1.0,)),)),
        ("ropes", (Rope((1.0,), switch_at=4),)),
        ("ropes", (Rope((1.0,), q_beta=0.1),)),
    ],
)
def test_impossible_specs(field: str, value: Any) -> None:
    with pytest.raises(ModelFormatError, match="invalid decoder spec"):
        dataclasses.replace(SPEC, **{field: value})


@pytest.mark.parametrize(
    "change",
    [
        {"n_kv_heads": 3},
        {"n_kv_heads": 0},
        {"head_dim": 4},
        {"scale": 0.0},
        {"rope": 1},
        {"rope": -2},
        {"window": 64},
        {"window": -1},
        {"qk_norm": "x"},
        {"softcap": -1.0},
    ],
)
def test_impossible_attention(change: dict[str, Any]) -> None:
    blocks = (Block(dataclasses.replace(ATTENTION, **change), Mlp(8)),)
    with pytest.raises(ModelFormatError):
        dataclasses.replace(SPEC, blocks=blocks, layout=(0,))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hidden",), "24"),
        (("hidden",), True),
        (("hidden",), None),
        (("norm_eps",), "x"),
        (("blocks",), {}),
        (("blocks", 0), []),
        (("blocks", 0, "mixer", "n_heads"), 4.0),
        (("ropes", 0, "inv_freq"), [[]]),
        (("surprise",), 1),
        (("tied",), 1),
    ],
)
def test_json_of_other_types_is_refused_with_its_place(path: tuple[Any, ...], value: Any) -> None:
    raw = json.loads(json.dumps(spec_to_json(SPEC)))
    owner = raw
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    with pytest.raises(ModelFormatError, match=str(path[-1])):
        spec_from_json(raw)


def test_a_smaller_context_drops_windows_that_no_longer_bind() -> None:
    small = SPEC.with_context(8)
    assert small.context_length == 8 and all(b.mixer.window == 0 for b in small.layers)
    assert [b.mlp for b in small.layers] == [b.mlp for b in SPEC.layers]
