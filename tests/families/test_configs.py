"""What a config.json means, and what is refused: read as transformers reads it, or not at all."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import CASES, LLAMA3, LONGROPE, llama, phi3, qwen2

from edgeslm.converters.config import Config
from edgeslm.converters.families import family_of, model_types
from edgeslm.converters.rope_kinds import inverse_frequencies
from edgeslm.errors import CheckpointError, EdgeslmError, UnsupportedModelError
from edgeslm.rope import uses_long
from edgeslm.spec import DecoderSpec


def read(values: dict[str, Any]) -> DecoderSpec:
    config = Config(json.loads(json.dumps(values)), "config.json")  # as from a file
    family = family_of(config)
    spec = family.read_spec(config)
    family.stored_weights(spec, config)
    config.check_all_read()
    return spec


def windows(values: dict[str, Any]) -> list[int]:
    return [block.mixer.window for block in read(values).layers]


def test_llama_3_2_1b() -> None:
    """As published, in the style of transformers 4."""
    spec = read(
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 128000,
            "eos_token_id": [128001, 128008, 128009],
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "initializer_range": 0.02,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.45.0.dev0",
            "use_cache": True,
            "vocab_size": 128256,
        }
    )
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.scale) == (32, 8, 64, 0.125)
    assert (spec.vocab_size, spec.hidden, spec.norm_eps, spec.context_length) == (128256, 2048, 1e-5, 131072)
    assert spec.layout == (0,) * 16 and spec.tied and not mixer.qkv_bias
    plain = inverse_frequencies(500000.0, 64)
    scaled = np.array(spec.ropes[0].inv_freq, np.float32)
    assert (scaled[:15] == plain[:15]).all()  # wavelengths below 8192 / 4 stay
    assert (scaled[-14:] == plain[-14:] / np.float32(32)).all()  # above 8192 / 1: stretched
    assert ((scaled[15:-14] < plain[15:-14]) & (scaled[15:-14] > plain[15:-14] / 32)).all()


def test_qwen2_5_0_5b() -> None:
    """As published; its sliding window is written down, but off."""
    spec = read(
        {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151643,
            "hidden_act": "silu",
            "hidden_size": 896,
            "initializer_range": 0.02,
            "intermediate_size": 4864,
            "max_position_embeddings": 32768,
            "max_window_layers": 24,
            "model_type": "qwen2",
            "num_attention_heads": 14,
            "num_hidden_layers": 24,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.40.1",
            "use_cache": True,
            "use_mrope": False,
            "use_sliding_window": False,
            "vocab_size": 151936,
        }
    )
    mixer = spec.blocks[0].mixer
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.scale) == (14, 2, 64, 0.125)
    assert spec.layout == (0,) * 24 and spec.tied and mixer.window == 0


def test_keys_that_published_llamas_carry_are_harmless() -> None:
    keys = {
        "is_llama_config": True,
        "rope_interleaved": False,
        "rope_scaling": None,
        "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        "_name_or_path": "x",
        "pretraining_tp": 2,
        "unsloth_version": "2024.9",
    }
    assert read(llama(**keys)) == read(llama())


def test_defaults_are_those_of_transformers() -> None:
    values = llama()
    for key in ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings"):
        del values[key]
    spec = read(values)
    assert (spec.norm_eps, spec.context_length, spec.tied) == (1e-6, 2048, False)
    assert spec.blocks[0].mixer.n_kv_heads == 4 and spec.blocks[0].mlp.act == "silu"
    assert spec.ropes[0].inv_freq == tuple(float(f) for f in inverse_frequencies(10000.0, 12))


def test_null_counts_as_absent() -> None:
    nulls = dict.fromkeys(("num_key_value_heads", "head_dim", "rope_scaling", "some_future_key"))
    assert read(llama(**nulls)).blocks[0].mixer.n_kv_heads == 4


def test_llama_bias_covers_o_and_qwen2_bias_does_not() -> None:
    mixer = read(llama(attention_bias=True)).blocks[0].mixer
    assert mixer.qkv_bias and mixer.out_bias
    mixer = read(qwen2()).blocks[0].mixer
    assert mixer.qkv_bias and not mixer.out_bias


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sliding_window": 8, "max_window_layers": 1}, [0, 0, 0]),  # use_sliding_window is off by default
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, [0, 8, 8]),
        ({"use_sliding_window": True, "sliding_window": 8}, [0, 0, 0]),  # max_window_layers is 28 by default
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, [0, 0, 0]),
        ({"use_sliding_window": True, "sliding_window": 500, "max_window_layers": 0}, [0, 0, 0]),
        ({"use_sliding_window": True, "max_window_layers": 0, "max_position_embeddings": 8192}, [4096] * 3),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 8,
                "max_window_layers": 0,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
            [0, 8, 0],
        ),
    ],
)
def test_qwen2_windows(keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(qwen2(**keys)) == expected


def test_rope_parameters_win_over_rope_theta() -> None:
    five = read(llama(rope_theta=1.5, rope_parameters={"rope_type": "default", "rope_theta": 300.0}))
    assert five.ropes == read(llama(rope_theta=300.0)).ropes


def test_llama3_original_context_defaults_to_the_context() -> None:
    scaling = {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}
    absent = read(llama(rope_scaling={"rope_type": "llama3", **scaling}))
    stated = {"rope_type": "llama3", **scaling, "original_max_position_embeddings": 128}
    assert absent.ropes == read(llama(rope_scaling=stated)).ropes
    other = {**stated, "original_max_position_embeddings": 32}
    outer = read(llama(rope_scaling=other, original_max_position_embeddings=128))  # the outer one wins
    assert outer.ropes == absent.ropes != read(llama(rope_scaling=other)).ropes


@pytest.mark.parametrize("key", ["clip_qkv", "logits_scaling", "sliding_window", "attn_logit_softcapping"])
def test_unknown_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{key} = 8"):
        read(llama(**{key: 8}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (llama(model_type="mamba"), ["model_type", "mamba", "llama", "qwen2"]),
        (llama(model_type="../llama"), ["model_type", "llama", "qwen2"]),
        (llama(model_type="common"), ["model_type"]),
        (llama(hidden_act="relu2"), ["hidden_act", "relu2", "gelu_pytorch_tanh"]),
        (llama(rope_scaling={"type": "dynamic", "factor": 2.0}), ["type", "dynamic", "llama3"]),
        (llama(rope_parameters={"rope_type": "axial"}), ["rope_type", "axial"]),
        (
            llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "beta": 1}),
            ["rope_parameters", "beta"],
        ),
        (llama(rope_parameters={"full_attention": {"rope_type": "default"}}), ["full_attention"]),
        (llama(partial_rotary_factor=0.5), ["config.json: partial_rotary_factor", "0.5"]),
        (
            llama(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
            ["config.json: rope_parameters: partial_rotary_factor"],
        ),
        (llama(rope_interleaved=True), ["rope_interleaved"]),
        (llama(quantization_config={"bits": 4}), ["quantization_config", "original"]),
        (qwen2(layer_types=["full_attention", "linear_attention", "full_attention"]), ["layer_types"]),
    ],
)
def test_what_cannot_be_represented_is_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read(values)
    assert all(word in str(caught.value) for word in words), str(caught.value)


BAD_VALUES = [0, -1, 1.5, 1 << 40, True, "48", [], {}]


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize(
    "key",
    [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
    ],
)
def test_sizes_out_of_range_are_named(key: str, bad: object) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: {key}: expected a whole number"):
        read(llama(**{key: bad}))


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_missing_sizes_are_named(key: str) -> None:
    values = llama()
    del values[key]
    with pytest.raises(CheckpointError, match=f"{key}: expected .* found nothing"):
        read(values)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"hidden_act": 3}, "hidden_act"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": 5e-324}, "rope_theta"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "factor": 0}}, "factor"),
        ({"model_type": None}, "model_type"),
    ],
)
def test_bad_values_are_named(keys: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        read(llama(**keys))


HOSTILE = [
    *(None, True, False, 0, -1, 1, 7, 1.5, 1e-40, 1e308, float("inf"), 1 << 24, 1 << 63, 10**400, "", "x", "linear"),
    *([], [1], ["full_attention"] * 3, {}, {"a": 1}, {"rope_type": "linear", "factor": 1e-29}),
    {"rope_type": "llama3", "factor": 1e29, "low_freq_factor": 1e-29, "high_freq_factor": 1.0000001e-29},
    {"type": "llama3", "factor": 1e-29, "low_freq_factor": 1e29, "high_freq_factor": 1.1e29},
]
KEYS = [
    "head_dim",
    "rope_scaling",
    "rope_parameters",
    "rope_theta",
    "layer_types",
    "sliding_window",
    "max_window_layers",
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_any_value_anywhere_is_read_or_refused(case: str) -> None:
    """Nothing but our own errors, and no overflow on the way."""
    generator = random.Random(case)
    for _ in range(150):
        values = dict(CASES[case])
        for key in generator.choices([*values, *KEYS], k=generator.randint(1, 3)):
            values[key] = generator.choice(HOSTILE)
        with contextlib.suppress(EdgeslmError):
            read(values)


def test_layer_types_must_fit() -> None:
    with pytest.raises(CheckpointError, match="layer_types: expected a list of 3 strings"):
        read(qwen2(layer_types=["full_attention"]))
    with pytest.raises(CheckpointError, match="layer_types"):
        read(qwen2(layer_types=["sliding_attention"] * 3))


def test_every_family_file_is_a_model_type() -> None:
    files = Path(family_of.__code__.co_filename).parent.glob("*.py")
    assert set(model_types()) == {p.stem for p in files} - {"__init__", "common"}


PHI_4_MINI: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "bos_token_id": 199999,
    "embd_pdrop": 0.0,
    "eos_token_id": 199999,
    "full_attn_mod": 1,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "phi3",
    "num_attention_heads": 24,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 199999,
    "partial_rotary_factor": 0.75,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0",
    "use_cache": True,
    "vocab_size": 200064,
}


def test_phi_4_mini() -> None:
    """As published, but for the values of the factors."""
    spec = read(PHI_4_MINI)
    mixer, (rope,) = spec.blocks[0].mixer, spec.ropes
    assert (mixer.n_heads, mixer.n_kv_heads, mixer.head_dim, mixer.window) == (24, 8, 128, 0)
    assert (spec.vocab_size, spec.context_length, spec.tied, spec.norm_eps) == (200064, 131072, True, 1e-5)
    plain = inverse_frequencies(10000.0, 96)
    assert (np.array(rope.inv_freq) == plain).all() and (np.array(rope.long_inv_freq) == plain / np.float32(2)).all()
    assert rope.scale == rope.long_scale == (1 + np.log(32) / np.log(4096)) ** 0.5 and rope.switch_at == 4096
    assert not uses_long(rope, spec.with_context(4096).context_length) and uses_long(rope, 4097)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 0),
        ({"sliding_window": None}, 0),
        ({"sliding_window": 8}, 8),
        ({"sliding_window": 128}, 0),  # the context
    ],
)
def test_phi3_windows(keys: dict[str, Any], expected: int) -> None:
    assert windows(phi3(**keys)) == [expected] * 3


def test_phi3_original_context_is_4096_unless_the_config_says() -> None:
    section = {"type": "longrope", **LONGROPE, "original_max_position_embeddings": 77}
    spec = read(phi3(rope_scaling=section, max_position_embeddings=8192))
    assert spec.ropes[0].switch_at == 4096 and spec.ropes[0].scale == (1 + np.log(2) / np.log(4096)) ** 0.5
    assert read(phi3(rope_scaling=section, original_max_position_embeddings=16)).ropes[0].switch_at == 16


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, UnsupportedModelError, ["linear", "default, longrope"]),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, CheckpointError, ["short_factor", "6 numbers"]),
        (
            {"rope_scaling": {"type": "longrope", **LONGROPE, "long_factor": [1.0] * 5}},
            CheckpointError,
            ["long_factor", "6 numbers"],
        ),
        (
            {"rope_scaling": {"type": "longrope", **LONGROPE, "long_factor": [0.0] * 6}},
            CheckpointError,
            ["long_factor"],
        ),
        (
            {"rope_scaling": {"type": "longrope", **LONGROPE, "short_mscale": 1.2}},
            UnsupportedModelError,
            ["short_mscale"],
        ),
        ({"partial_rotary_factor": 0.3}, CheckpointError, ["partial_rotary_factor", "head_dim 12"]),
        ({"partial_rotary_factor": 1.5}, CheckpointError, ["partial_rotary_factor", "head_dim 12"]),
        ({"hidden_act": "relu"}, UnsupportedModelError, ["hidden_act", "relu"]),
        ({"attention_bias": True}, UnsupportedModelError, ["attention_bias = True"]),
        ({"lm_head_bias": True}, UnsupportedModelError, ["lm_head_bias = True"]),
        ({"full_attn_mod": 2}, UnsupportedModelError, ["full_attn_mod = 2"]),
    ],
)
def test_phi3_refusals_name_what_is_not_supported(
    keys: dict[str, Any], error: type[EdgeslmError], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        read(phi3(**keys))
    assert all(word in str(caught.value) for word in words), caught.value
