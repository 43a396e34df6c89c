"""OLMo 2 and 3: where the norms are, and the ropes of full and of sliding attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import YARN, olmo2, olmo3

from edgeslm.converters.rope_kinds import inverse_frequencies
from edgeslm.errors import CheckpointError, UnsupportedModelError
from edgeslm.spec import tensor_shapes

from .test_configs import read, windows


def test_olmo_2_1b() -> None:
    """As published."""
    spec = read(
        {
            "architectures": ["Olmo2ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "eos_token_id": 100257,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "initializer_range": 0.02,
            "intermediate_size": 8192,
            "max_position_embeddings": 4096,
            "model_type": "olmo2",
            "num_attention_heads": 16,
            "num_hidden_layers": 16,
            "num_key_value_heads": 16,
            "pad_token_id": 100277,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 500000,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "transformers_version": "4.47.0",
            "use_cache": True,
            "vocab_size": 100352,
        }
    )
    block, shapes = spec.blocks[0], tensor_shapes(spec)
    assert (block.norm_in, block.norm_out, block.mixer.qk_norm) == (False, True, "full")
    assert (spec.norm_eps, spec.context_length, len(spec.ropes[0].inv_freq)) == (1e-6, 4096, 64)
    assert shapes["layers.15.attn.q_norm"] == (2048,) and "layers.0.attn.norm_in" not in shapes


def test_olmo_3_7b() -> None:
    """As published: three windows, then full attention, whose rope alone is stretched."""
    types = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    spec = read(
        {
            "architectures": ["Olmo3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "eos_token_id": 100257,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 11008,
            "layer_types": types * 8,
            "max_position_embeddings": 65536,
            "model_type": "olmo3",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "pad_token_id": 100277,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {
                "attention_factor": 1.2079441541679836,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "yarn",
            },
            "rope_theta": 500000,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "transformers_version": "4.57.0",
            "use_cache": True,
            "vocab_size": 100278,
        }
    )
    assert [(b.mixer.window, b.mixer.rope) for b in spec.layers] == [(4096, 1), (4096, 1), (4096, 1), (0, 0)] * 8
    full, local = spec.ropes
    plain = inverse_frequencies(500000.0, 128)
    assert (np.array(local.inv_freq, np.float32) == plain).all() and local.scale == 1.0
    assert full.scale == 1.2079441541679836
    assert full.inv_freq[0] == plain[0] and np.isclose(full.inv_freq[-1], plain[-1] / 8)


@pytest.mark.parametrize("family", [olmo2, olmo3])
def test_defaults_are_those_of_transformers(family: Any) -> None:
    values = family()
    for key in ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings"):
        del values[key]
    spec = read(values)
    assert (spec.norm_eps, spec.context_length, spec.tied, spec.blocks[0].mixer.n_kv_heads) == (1e-5, 2048, False, 4)


def test_default_thetas_differ() -> None:
    assert read(olmo2()).ropes == read(olmo2(rope_theta=10000)).ropes
    plain = tuple(float(f) for f in inverse_frequencies(500000.0, 12))
    assert [rope.inv_freq for rope in read(olmo3()).ropes] == [plain, plain]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sliding_window": 8, "num_hidden_layers": 5}, [8, 8, 8, 0, 8]),
        ({"max_position_embeddings": 8192}, [4096] * 3),
        ({"sliding_window": 128}, [0] * 3),
        ({"sliding_window": 8, "layer_types": ["full_attention"] * 3}, [0] * 3),
        ({"sliding_window": None, "layer_types": ["full_attention"] * 3}, [0] * 3),
    ],
)
def test_olmo3_windows(keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(olmo3(**keys)) == expected


def test_sections_of_rope_parameters_are_those_of_their_layers() -> None:
    sections = {
        "full_attention": {**YARN, "rope_theta": 300.0},
        "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0},
    }
    full, local = read(olmo3(rope_parameters=sections)).ropes
    assert full == read(olmo2(rope_theta=300.0, rope_scaling=YARN)).ropes[0]
    assert local == read(olmo2(rope_theta=700.0, rope_scaling={"type": "linear", "factor": 2.0})).ropes[0]
    absent = read(olmo3(rope_parameters={"full_attention": YARN}))
    assert absent.ropes == read(olmo3(rope_theta=500000, rope_scaling=YARN)).ropes


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (olmo2(clip_qkv=8.0), ["clip_qkv"]),
        (olmo2(mlp_bias=True), ["mlp_bias"]),
        (olmo2(sliding_window=8), ["sliding_window"]),
        (olmo2(hidden_act="gelu_10"), ["hidden_act", "gelu_10"]),
        (olmo3(layer_types=["full_attention", "conv", "full_attention"]), ["layer_types", "conv"]),
        (olmo3(rope_theta=1000.0), ["rope_theta: 1000.0", "500000", "rope_parameters", "sliding_attention"]),
        (olmo3(rope_parameters={"rope_type": "default", "rope_theta": 5e5}), ["rope_parameters", "rope_type"]),
        (olmo3(rope_parameters={"full_attention": YARN}, rope_scaling=YARN), ["rope_scaling"]),
        (olmo3(rope_scaling={**YARN, "truncate": False}), ["rope_scaling: truncate", "true"]),
        (olmo3(rope_scaling=YARN, original_max_position_embeddings=16), ["original_max_position_embeddings"]),
        (olmo3(rope_parameters={"sliding_attention": {**YARN, "partial_rotary_factor": 0.5}}), ["partial_rotary"]),
    ],
)
def test_what_cannot_be_represented_is_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(values)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_windows_need_a_size() -> None:
    with pytest.raises(CheckpointError, match="sliding_window: expected a window"):
        read(olmo3(sliding_window=None))
