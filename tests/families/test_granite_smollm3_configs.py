"""Granite 3 and SmolLM3: published configs, defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import BASE, WINDOW, granite, smollm3

from edgeslm.converters.config import Config
from edgeslm.converters.families import family_of
from edgeslm.converters.rope_kinds import inverse_frequencies
from edgeslm.errors import CheckpointError, UnsupportedModelError

from .test_configs import read, windows

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
TINY = {key: BASE[key] for key in SIZES}


def rotating(values: dict[str, Any]) -> list[bool]:
    return [block.mixer.rope >= 0 for block in read(values).layers]


def test_granite_3_1_2b() -> None:
    values = {
        "architectures": ["GraniteForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.1,
        "attention_multiplier": 0.015625,
        "bos_token_id": 0,
        "embedding_multiplier": 12.0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 8192,
        "logits_scaling": 8.0,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "granite",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "pad_token_id": 0,
        "residual_multiplier": 0.22,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 5000000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.47.0.dev0",
        "use_cache": True,
        "vocab_size": 49155,
    }
    spec, config = read(values), Config(values, "config.json")
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.scale) == (32, 8, 64, 0.015625)
    assert (spec.embed_scale, spec.norm_eps, spec.tied, spec.layout) == (12.0, 1e-5, True, (0,) * 40)
    stored = family_of(config).stored_weights(spec, config)
    scaled = {name: place.scale for name, place in stored.items() if place.scale != 1}
    ends = {f"layers.{i}.{end}": 0.22 for i in range(40) for end in ("attn.o", "mlp.down")}
    assert scaled == {**ends, "norm": 0.125}


def test_granite_multipliers_are_1_by_default() -> None:
    values = {"model_type": "granite", **TINY}
    spec, config = read(values), Config(values, "config.json")
    assert (spec.blocks[0].mixer.scale, spec.embed_scale, spec.tied, spec.context_length) == (1.0, 1.0, False, 2048)
    assert all(place.scale == 1 for place in family_of(config).stored_weights(spec, config).values())


def test_smollm3_3b() -> None:
    spec = read(
        {
            "architectures": ["SmolLM3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": None,
            "eos_token_id": 128012,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "initializer_range": 0.02,
            "intermediate_size": 11008,
            "layer_types": ["full_attention"] * 36,
            "max_position_embeddings": 65536,
            "max_window_layers": 28,
            "mlp_bias": False,
            "model_type": "smollm3",
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0] * 9,
            "num_attention_heads": 16,
            "num_hidden_layers": 36,
            "num_key_value_heads": 4,
            "pad_token_id": 128004,
            "pretraining_tp": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.54.0.dev0",
            "use_cache": False,
            "use_sliding_window": False,
            "vocab_size": 128256,
        }
    )
    assert spec.layout == (0, 0, 0, 1) * 9 and [block.mixer.rope for block in spec.blocks] == [0, -1]
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.window, spec.tied) == (16, 4, 128, 0, True)


def test_smollm3_defaults_are_those_of_transformers() -> None:
    spec = read({"model_type": "smollm3", **TINY, "num_hidden_layers": 8, "num_attention_heads": 8})
    assert (spec.norm_eps, spec.context_length, spec.tied) == (1e-6, 32768, True)
    assert spec.blocks[0].mixer.n_kv_heads == 4
    assert spec.ropes[0].inv_freq == tuple(float(f) for f in inverse_frequencies(2e6, 6))
    assert [block.mixer.rope for block in spec.layers] == [0, 0, 0, -1] * 2


def test_smollm3_null_kv_heads_are_as_many_as_heads() -> None:
    values = {"model_type": "smollm3", **TINY, "num_attention_heads": 8, "num_key_value_heads": None}
    assert read(values).blocks[0].mixer.n_kv_heads == 8


def test_smollm3_layers_without_rotation() -> None:
    assert rotating(smollm3(no_rope_layer_interval=2)) == [True, False, True]
    assert rotating(smollm3(no_rope_layers=[0, 1, 1, 0, 0])) == [False, True, True]  # may be longer than the model


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sliding_window": 8}, [0, 0, 0]),  # use_sliding_window is off by default
        (WINDOW, [8, 0, 8]),  # where there is no rotation
        ({**WINDOW, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}, [8, 8, 0]),
        ({**WINDOW, "sliding_window": 128}, [0, 0, 0]),
        ({**WINDOW, "sliding_window": None}, [0, 0, 0]),
    ],
)
def test_smollm3_windows(keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(smollm3(no_rope_layers=[0, 1, 0], **keys)) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (granite(hidden_act="relu"), ["hidden_act", "relu"]),
        (granite(num_local_experts=8), ["num_local_experts = 8"]),
        (granite(sliding_window=8), ["sliding_window = 8"]),
        (granite(position_embedding_type="nope"), ["position_embedding_type"]),
        (granite(rope_scaling={"type": "dynamic", "factor": 2.0}), ["dynamic"]),
        (smollm3(hidden_act="relu2"), ["hidden_act", "relu2"]),
        (smollm3(attention_multiplier=0.5), ["attention_multiplier = 0.5"]),
        (smollm3(layer_types=["chunked_attention"] * 3), ["layer_types"]),
    ],
)
def test_a_twist_is_refused_by_name(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(values)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (granite(logits_scaling=0), "logits_scaling"),
        (granite(residual_multiplier=-0.2), "residual_multiplier"),
        (granite(embedding_multiplier="12"), "embedding_multiplier"),
        (smollm3(no_rope_layers=[1, 0]), "no_rope_layers: expected a number for each of 3 layers"),
        (smollm3(no_rope_layers=[1, 0, 2]), "no_rope_layers"),
        (smollm3(no_rope_layers=[True] * 3), "no_rope_layers"),
        (smollm3(no_rope_layer_interval=0), "no_rope_layer_interval"),
        (smollm3(layer_types=["sliding_attention"] * 3, sliding_window=8), "layer_types"),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        read(values)
