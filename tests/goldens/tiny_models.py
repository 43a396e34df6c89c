"""Tiny Hugging Face checkpoints from a seed, with nothing at its default: what goldens and tests are made of.

Weights are regenerated rather than committed, so their generator must never change: NumPy has frozen
RandomState.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 0.01,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
}
LLAMA3 = {
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 8}


def llama(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **BASE, **keys}


def qwen2(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **BASE, **keys}


def qwen3(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **BASE, **keys}


def mistral(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["MistralForCausalLM"], "model_type": "mistral", **BASE, **keys}


def ministral(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["MinistralForCausalLM"], "model_type": "ministral", **BASE, **keys}


def ministral3(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", **BASE, **keys}


def olmo2(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", **BASE, **keys}


def olmo3(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", **BASE, **keys}


FAMILIES = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "mistral": mistral,
    "ministral": ministral,
    "ministral3": ministral3,
    "olmo2": olmo2,
    "olmo3": olmo3,
}

# Golden → config.json. rope_theta with rope_scaling is the style of transformers 4, rope_parameters of 5.
CASES: dict[str, dict[str, Any]] = {
    "llama": llama(rope_theta=500.0, rope_scaling=None, pretraining_tp=1, torch_dtype="float32"),
    "llama-5": llama(rope_parameters={"rope_theta": 500.0, "rope_type": "default"}, dtype="float32"),
    "llama-tied": llama(rope_theta=10000.0, tie_word_embeddings=True, num_key_value_heads=1),
    "llama-bias": llama(attention_bias=True, mlp_bias=True, num_key_value_heads=4),
    "llama-head-dim": llama(head_dim=20, num_key_value_heads=1, rope_theta=2000.0),
    "llama-linear": llama(rope_theta=10000.0, rope_scaling={"type": "linear", "factor": 2.5}),
    "llama-linear-5": llama(rope_parameters={"rope_theta": 300.0, "rope_type": "linear", "factor": 3.0}),
    "llama-llama3": llama(head_dim=16, rope_theta=10000.0, rope_scaling={"rope_type": "llama3", **LLAMA3}),
    "llama-llama3-5": llama(
        head_dim=16, rope_parameters={"rope_type": "llama3", "rope_theta": 700.0, **LLAMA3, "factor": 8.0}
    ),
    "llama-gelu": llama(hidden_act="gelu"),
    "llama-gelu-tanh": llama(hidden_act="gelu_pytorch_tanh"),
    "llama-defaults": {k: v for k, v in llama().items() if k not in ("num_key_value_heads", "rms_norm_eps")},
    "qwen2": qwen2(rope_theta=1000.0, use_sliding_window=False, sliding_window=8, max_window_layers=1),
    "qwen2-tied": qwen2(
        tie_word_embeddings=True,
        use_sliding_window=False,
        sliding_window=None,
        layer_types=["full_attention"] * 3,
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
    ),
    "qwen2-window": qwen2(rope_theta=1000.0, max_window_layers=1, **WINDOW),
    "qwen2-layer-types": qwen2(
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"},
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        max_window_layers=28,
        **WINDOW,
    ),
}

YARN = {
    "rope_type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4.0,
    "beta_slow": 0.25,
}
MINISTRAL3_ROPE = {
    **YARN,
    "type": "yarn",
    "rope_theta": 300.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.3,
    "max_position_embeddings": 128,
}
CASES |= {
    "qwen3": qwen3(head_dim=20, rope_theta=1000.0, rope_scaling=None, use_sliding_window=False, max_window_layers=1),
    "qwen3-bias-window": qwen3(
        attention_bias=True,
        head_dim=16,
        tie_word_embeddings=True,
        max_window_layers=1,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"},
        **WINDOW,
    ),
    "qwen3-yarn": qwen3(head_dim=16, rope_theta=1000.0, rope_scaling={**YARN, "truncate": False}),
    "mistral": mistral(rope_theta=1000.0, sliding_window=8),
    "mistral-full": mistral(
        head_dim=16, sliding_window=None, rope_parameters={"rope_theta": 300.0, "rope_type": "default"}
    ),
    "ministral": ministral(
        head_dim=20,
        rope_theta=1000.0,
        sliding_window=8,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
    ),
    "ministral3": ministral3(head_dim=16, rope_parameters=MINISTRAL3_ROPE),
    "ministral3-window": ministral3(
        head_dim=20,
        sliding_window=8,
        rope_theta=700.0,
        rope_scaling={**YARN, "mscale": 0.7, "mscale_all_dim": 1.5, "llama_4_scaling_beta": 0.2},
    ),
    "olmo2": olmo2(rope_theta=1000.0, rope_scaling=None),
    "olmo2-bias": olmo2(
        attention_bias=True,
        tie_word_embeddings=True,
        num_key_value_heads=4,
        rope_parameters={"rope_theta": 500.0, **YARN, "attention_factor": 1.4},
    ),
    "olmo3": olmo3(
        num_hidden_layers=5, sliding_window=8, rope_theta=500000.0, rope_scaling={**YARN, "attention_factor": 1.2}
    ),
    "olmo3-5": olmo3(
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {**YARN, "rope_theta": 1000.0},
            "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0},
        },
    ),
}

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Hugging Face's name → shape of every tensor that the family of ``config`` stores."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    n_heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // n_heads
    q, kv = n_heads * head_dim, (config.get("num_key_value_heads") or n_heads) * head_dim
    qkv_bias = config["model_type"] == "qwen2" or config.get("attention_bias", False)
    out_bias = config["model_type"] != "qwen2" and config.get("attention_bias", False)
    mlp_bias = config.get("mlp_bias", False)
    linears = {
        "self_attn.q_proj": (q, hidden, qkv_bias),
        "self_attn.k_proj": (kv, hidden, qkv_bias),
        "self_attn.v_proj": (kv, hidden, qkv_bias),
        "self_attn.o_proj": (hidden, q, out_bias),
        "mlp.gate_proj": (inner, hidden, mlp_bias),
        "mlp.up_proj": (inner, hidden, mlp_bias),
        "mlp.down_proj": (hidden, inner, mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(config["num_hidden_layers"]):
        for name, (rows, columns, bias) in linears.items():
            shapes[f"model.layers.{i}.{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"model.layers.{i}.{name}.bias"] = (rows,)
        for norm, width in _norms(config, hidden, head_dim, q, kv).items():
            shapes[f"model.layers.{i}.{norm}.weight"] = (width,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def _norms(config: dict[str, Any], hidden: int, head_dim: int, q: int, kv: int) -> dict[str, int]:
    """Norms of a layer and their widths."""
    qk, family = ("self_attn.q_norm", "self_attn.k_norm"), config["model_type"]
    if family in ("olmo2", "olmo3"):
        outer: tuple[str, ...] = ("post_attention_layernorm", "post_feedforward_layernorm")
        return dict(zip(qk, (q, kv), strict=True)) | dict.fromkeys(outer, hidden)
    heads = dict.fromkeys(qk, head_dim) if family == "qwen3" else {}
    return dict.fromkeys(("input_layernorm", "post_attention_layernorm"), hidden) | heads


def tensors(config: dict[str, Any], seed: int = 0) -> Tensors:
    """Seeded weights: norms away from 1, biases away from 0, attention peaked."""
    return {name: _weight(name, shape, seed) for name, shape in tensor_shapes(config).items()}


def _weight(name: str, shape: tuple[int, ...], seed: int) -> Any:
    generator = np.random.RandomState([seed, zlib.crc32(name.encode())])  # each tensor by itself
    values = generator.standard_normal(shape)
    if name.endswith("norm.weight"):
        values = 1 + 0.3 * values
    elif name.endswith("bias"):
        values = 0.3 * values
    elif "embed" in name:
        values = 0.5 * values
    else:
        gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
        values = gain / np.sqrt(shape[1]) * values
    return values.astype(np.float32)


def encode(values: Any, dtype: str) -> Any:
    """float32 as ``dtype`` (F32, F16, BF16 as uint16), rounded to nearest even."""
    if dtype == "F32":
        return values
    if dtype == "F16":
        return values.astype(np.float16)
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def safetensors_bytes(weights: dict[str, Any], dtype: str = "F32") -> bytes:
    """A safetensors file, written by hand so that its every byte is ours."""
    header, chunks, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, values in weights.items():
        raw = encode(values, dtype).tobytes()
        entry: Any = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        header[name] = entry
        chunks.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(chunks)


def write_checkpoint(
    folder: Path, config: dict[str, Any], *, seed: int = 0, dtype: str = "F32", shards: int = 1
) -> Path:
    """``config.json`` and safetensors into ``folder``, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    weights = tensors(config, seed)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(weights, dtype))
        return folder
    names, weight_map = list(weights), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[i::shards]}
        (folder / file).write_bytes(safetensors_bytes(part, dtype))
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
