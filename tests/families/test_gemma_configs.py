"""Gemma 2 and 3: published configs, defaults, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import BASE, gemma2, gemma3_text, write_checkpoint

from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.converters.rope_kinds import inverse_frequencies
from edgeslm.errors import CheckpointError, UnsupportedModelError

from .test_configs import read, windows

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
TINY = {key: BASE[key] for key in SIZES}


def frequencies(theta: float, head_dim: int) -> tuple[float, ...]:
    return tuple(float(f) for f in inverse_frequencies(theta, head_dim))


def test_gemma_2_2b() -> None:
    spec = read(
        {
            "architectures": ["Gemma2ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": 50.0,
            "bos_token_id": 2,
            "cache_implementation": "hybrid",
            "eos_token_id": 1,
            "final_logit_softcapping": 30.0,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304,
            "initializer_range": 0.02,
            "intermediate_size": 9216,
            "max_position_embeddings": 8192,
            "model_type": "gemma2",
            "num_attention_heads": 8,
            "num_hidden_layers": 26,
            "num_key_value_heads": 4,
            "pad_token_id": 0,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "torch_dtype": "float32",
            "transformers_version": "4.42.4",
            "use_cache": True,
            "vocab_size": 256000,
        }
    )
    local, full = spec.blocks
    assert spec.layout == (0, 1) * 13 and (local.mixer.window, full.mixer.window) == (4096, 0)
    assert (full.mixer.n_heads, full.mixer.n_kv_heads, full.mixer.head_dim, full.mixer.scale) == (8, 4, 256, 0.0625)
    assert (full.mixer.softcap, spec.logit_softcap, spec.embed_scale, spec.tied) == (50.0, 30.0, 48.0, True)
    assert full.norm_in and full.norm_out and full.mlp.act == "gelu_tanh" and full.mixer.qk_norm == ""


GEMMA_3_1B = {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "initializer_range": 0.02,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "use_cache": True,
    "vocab_size": 262144,
}


def test_gemma_3_1b() -> None:
    spec = read(GEMMA_3_1B)
    local, full = spec.blocks
    assert spec.layout == ((0,) * 5 + (1,)) * 4 + (0, 0)
    assert (local.mixer.window, full.mixer.window) == (512, 0)
    assert spec.ropes[local.mixer.rope].inv_freq == frequencies(1e4, 256)
    assert spec.ropes[full.mixer.rope].inv_freq == frequencies(1e6, 256)
    assert (full.mixer.qk_norm, full.mixer.scale, full.mixer.softcap, spec.logit_softcap) == ("head", 0.0625, 0, 0)
    assert spec.embed_scale == 1152**0.5 and spec.tied and full.norm_out


def test_gemma_3_1b_in_the_style_of_transformers_5() -> None:
    gone = ("rope_local_base_freq", "rope_scaling", "rope_theta", "sliding_window_pattern", "torch_dtype")
    five: dict[str, Any] = {
        **{key: value for key, value in GEMMA_3_1B.items() if key not in gone},
        "_sliding_window_pattern": 6,
        "dtype": "bfloat16",
        "layer_types": [
            "full_attention" if i % 6 == 5 else "sliding_attention"
            for i in range(26)  # as transformers writes it
        ],
        "rope_parameters": {
            "full_attention": {"rope_theta": 1000000, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10000, "rope_type": "default"},
        },
        "tie_word_embeddings": True,
        "use_bidirectional_attention": False,
    }
    assert read(five) == read(GEMMA_3_1B)


def test_gemma2_defaults_are_those_of_transformers() -> None:
    spec = read({"model_type": "gemma2", **TINY})
    mixer = spec.blocks[0].mixer
    assert (mixer.n_kv_heads, mixer.head_dim, mixer.scale, mixer.softcap) == (4, 256, 0.0625, 50.0)
    assert (spec.norm_eps, spec.context_length, spec.tied, spec.logit_softcap) == (1e-6, 8192, True, 30.0)
    assert [block.mixer.window for block in spec.layers] == [4096, 0, 4096]
    assert spec.ropes[0].inv_freq == frequencies(1e4, 256) and spec.blocks[0].mlp.act == "gelu_tanh"


def test_gemma3_defaults_are_those_of_transformers() -> None:
    spec = read({"model_type": "gemma3_text", **TINY, "num_hidden_layers": 6})
    mixer = spec.blocks[0].mixer
    assert (mixer.n_kv_heads, mixer.head_dim, mixer.scale, mixer.softcap) == (4, 256, 0.0625, 0.0)
    assert (spec.norm_eps, spec.context_length, spec.tied, spec.logit_softcap) == (1e-6, 131072, True, 0.0)
    assert [block.mixer.window for block in spec.layers] == [4096] * 5 + [0]
    assert [rope.inv_freq for rope in spec.ropes] == [frequencies(1e4, 256), frequencies(1e6, 256)]


def test_null_caps_are_none() -> None:
    spec = read(gemma2(attn_logit_softcapping=None, final_logit_softcapping=None))
    assert (spec.blocks[0].mixer.softcap, spec.logit_softcap) == (0.0, 0.0)


def test_a_window_that_cannot_bind_is_dropped_but_not_its_rope() -> None:
    spec = read(gemma3_text(sliding_window=128, num_hidden_layers=6))
    assert [block.mixer.window for block in spec.layers] == [0] * 6
    assert [block.mixer.rope for block in spec.layers] == [0] * 5 + [1]


def test_gemma3_scaling_is_for_global_layers_alone() -> None:
    plain = read(gemma3_text())
    scaled = read(gemma3_text(rope_scaling={"rope_type": "linear", "factor": 8.0}))
    assert scaled.ropes[0] == plain.ropes[0]
    assert np.allclose(np.array(scaled.ropes[1].inv_freq) * 8, plain.ropes[1].inv_freq)


def test_layer_types_win_over_the_pattern() -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    assert windows(gemma2(layer_types=types)) == windows(gemma3_text(layer_types=types)) == [0, 8, 0]
    assert windows(gemma3_text(sliding_window_pattern=2)) == [8, 0, 8]


NESTED = {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "default"}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (gemma2(hidden_activation="relu2"), ["hidden_activation", "relu2", "gelu_pytorch_tanh"]),
        (gemma2(use_bidirectional_attention=True), ["use_bidirectional_attention"]),
        (gemma3_text(use_bidirectional_attention=True), ["use_bidirectional_attention"]),
        (gemma2(mlp_bias=True), ["mlp_bias"]),
        (gemma2(rope_parameters=NESTED), ["full_attention"]),
        (gemma2(rope_local_base_freq=100.0), ["rope_local_base_freq"]),
        (gemma2(sliding_window_pattern=6), ["sliding_window_pattern"]),
        (gemma3_text(rope_parameters={"rope_theta": 5.0}), ["rope_parameters", "rope_theta"]),
        (gemma3_text(rope_parameters=NESTED, rope_scaling={"type": "linear", "factor": 2.0}), ["rope_scaling"]),
        (gemma3_text(rope_parameters={**NESTED, "chunked_attention": {}}), ["chunked_attention"]),
        (gemma3_text(rope_parameters={"full_attention": {"rope_type": "dynamic", "factor": 2.0}}), ["dynamic"]),
        (gemma3_text(altup_num_inputs=4), ["altup_num_inputs = 4"]),
    ],
)
def test_a_twist_is_refused_by_name(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(values)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (gemma2(hidden_act="gelu"), "hidden_act: expected the same as hidden_activation"),
        (gemma2(sliding_window=None), "sliding_window"),
        (gemma3_text(sliding_window=None), "sliding_window"),
        (gemma3_text(sliding_window_pattern=0), "sliding_window_pattern"),
        (
            gemma3_text(rope_scaling={"type": "linear", "factor": 2.0}),
            "rope_scaling: expected rope_type instead of type",
        ),
        (gemma2(query_pre_attn_scalar=0), "query_pre_attn_scalar"),
        (gemma2(final_logit_softcapping=-1.0), "final_logit_softcapping"),
        (gemma3_text(rope_parameters={"full_attention": 3}), "full_attention"),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        read(values)


def test_an_error_names_the_file_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", gemma2())
    (folder / "config.json").write_text(json.dumps(gemma2(sliding_window=None)))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(caught.value).count("config.json") == 1


def test_multimodal_gemma3_is_told_what_to_do() -> None:
    values = {"model_type": "gemma3", "text_config": gemma3_text(), "vision_config": {}}
    with pytest.raises(UnsupportedModelError, match=r"'gemma3'.*text decoder \('gemma3_text'\).*save_pretrained"):
        read(values)
