"""Qwen3: normalised heads of q and k, their width, and windows as in Qwen2."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import qwen3

from edgeslm.errors import CheckpointError, UnsupportedModelError
from edgeslm.spec import tensor_shapes

from .test_configs import read, windows


def test_qwen3_0_6b() -> None:
    """As published: heads wider than hidden / heads."""
    spec = read(
        {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 1024,
            "initializer_range": 0.02,
            "intermediate_size": 3072,
            "max_position_embeddings": 40960,
            "max_window_layers": 28,
            "model_type": "qwen3",
            "num_attention_heads": 16,
            "num_hidden_layers": 28,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.51.0",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": 151936,
        }
    )
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.qk_norm) == (16, 8, 128, "head")
    assert spec.layout == (0,) * 28 and spec.tied and mixer.window == 0
    shapes = tensor_shapes(spec)
    assert shapes["layers.27.attn.q"] == (2048, 1024) and shapes["layers.27.attn.k_norm"] == (128,)


def test_defaults_are_those_of_transformers() -> None:
    values = qwen3(num_attention_heads=64)
    for key in ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings"):
        del values[key]
    spec, mixer = read(values), read(values).blocks[0].mixer
    assert (spec.norm_eps, spec.context_length, spec.tied) == (1e-6, 32768, False)
    assert (mixer.n_kv_heads, mixer.head_dim, mixer.qkv_bias) == (32, 128, False)


def test_attention_bias_covers_o() -> None:
    mixer = read(qwen3(attention_bias=True)).blocks[0].mixer
    assert mixer.qkv_bias and mixer.out_bias


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sliding_window": 8, "max_window_layers": 1}, [0, 0, 0]),  # use_sliding_window is off by default
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, [0, 8, 8]),
        ({"use_sliding_window": True, "sliding_window": 8}, [0, 0, 0]),  # max_window_layers is 28 by default
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, [0, 0, 0]),
    ],
)
def test_windows(keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(qwen3(**keys)) == expected


@pytest.mark.parametrize("key", ["num_experts", "clip_qkv", "mlp_bias"])
def test_unknown_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{key} = 8"):
        read(qwen3(**{key: 8}))


def test_windows_that_are_off_cannot_be_named() -> None:
    with pytest.raises(CheckpointError, match="layer_types"):
        read(qwen3(sliding_window=8, layer_types=["sliding_attention"] * 3))
