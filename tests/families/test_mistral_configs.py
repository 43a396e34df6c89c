"""Mistral, Ministral and Ministral 3: windows, and queries that grow with the position."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import CASES, MINISTRAL3_ROPE, YARN, ministral, ministral3, mistral

from edgeslm.errors import CheckpointError, UnsupportedModelError

from .test_configs import read, windows

MIXED = ["full_attention", "sliding_attention", "full_attention"]


def without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in keys}


def test_mistral_7b_v0_1() -> None:
    """As published: a window on every layer."""
    spec = read(
        {
            "architectures": ["MistralForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "model_type": "mistral",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.34.0.dev0",
            "use_cache": True,
            "vocab_size": 32000,
        }
    )
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.window) == (32, 8, 128, 4096)
    assert spec.layout == (0,) * 32 and not (spec.tied or mixer.qkv_bias or mixer.out_bias)


def test_mistral_defaults_are_those_of_transformers() -> None:
    absent = ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings")
    spec = read(without(mistral(num_attention_heads=24), *absent))
    mixer = spec.blocks[0].mixer
    assert (spec.norm_eps, spec.context_length, spec.tied) == (1e-6, 131072, False)
    assert (mixer.window, mixer.n_kv_heads, mixer.head_dim) == (4096, 8, 2)
    assert read(mistral(num_key_value_heads=None)).blocks[0].mixer.n_kv_heads == 4


@pytest.mark.parametrize("family", [mistral, ministral])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [0, 0, 0]),  # 4096 by default, above the context
        ({"max_position_embeddings": 8192}, [4096] * 3),
        ({"max_position_embeddings": 8192, "sliding_window": None}, [0] * 3),
        ({"sliding_window": 8}, [8] * 3),
        ({"sliding_window": 128}, [0] * 3),
        ({"sliding_window": 8, "layer_types": MIXED}, [0, 8, 0]),
        ({"sliding_window": None, "layer_types": ["full_attention"] * 3}, [0] * 3),
    ],
)
def test_mistral_windows(family: Any, keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(family(**keys)) == expected


def test_ministral3_defaults_are_those_of_transformers() -> None:
    spec = read(without(ministral3(), "rms_norm_eps", "max_position_embeddings"))
    rope, mixer = spec.ropes[0], spec.blocks[0].mixer
    assert (spec.norm_eps, spec.context_length, mixer.head_dim, mixer.window) == (1e-5, 262144, 128, 0)
    assert (len(rope.inv_freq), rope.scale, rope.q_beta, rope.q_period) == (64, 1.0, 0.1, 16384)
    written = {
        **{"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384},
        **{"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
    }
    assert read(without(ministral3(rope_parameters=written), "max_position_embeddings")).ropes == spec.ropes


def test_ministral3_queries_grow_over_the_original_context() -> None:
    rope = read(CASES["ministral3"]).ropes[0]
    assert (rope.q_beta, rope.q_period) == (0.3, 16)
    outer = read(ministral3(rope_parameters=MINISTRAL3_ROPE, original_max_position_embeddings=24)).ropes[0]
    assert outer.q_period == 24  # the outer one wins


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (mistral(attention_bias=True), ["attention_bias"]),
        (mistral(hidden_act="relu"), ["hidden_act", "relu", "silu"]),
        (mistral(layer_types=["full_attention", "chunked_attention", "full_attention"]), ["layer_types", "chunked"]),
        (ministral(use_sliding_window=True), ["use_sliding_window"]),
        (ministral3(layer_types=MIXED), ["layer_types"]),  # transformers would ignore them
        (ministral3(rope_parameters={**MINISTRAL3_ROPE, "rope_type": "dynamic"}), ["rope_type", "dynamic", "yarn"]),
        (ministral3(rope_parameters={**MINISTRAL3_ROPE, "beta": 2}), ["rope_parameters", "beta"]),
        (mistral(rope_parameters=MINISTRAL3_ROPE), ["rope_parameters", "llama_4_scaling_beta"]),
        (mistral(model_type="mistral3"), ["mistral3", "ministral3"]),
    ],
)
def test_what_cannot_be_represented_is_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(values)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (mistral(sliding_window=0), "sliding_window"),
        (mistral(sliding_window=None, layer_types=MIXED), "sliding_window: expected a window"),
        (ministral(sliding_window=8, layer_types=["full_attention"]), "layer_types"),
        (ministral3(sliding_window=-1), "sliding_window"),
        (ministral3(rope_parameters={**YARN, "rope_theta": 300.0}), "llama_4_scaling_beta"),
        (ministral3(rope_parameters={**MINISTRAL3_ROPE, "llama_4_scaling_beta": "x"}), "llama_4_scaling_beta"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        read(values)
