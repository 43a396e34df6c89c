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


def phi3(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0, **BASE, **keys}


def gemma2(**keys: Any) -> dict[str, Any]:
    own = {"head_dim": 20, "query_pre_attn_scalar": 24, "sliding_window": 8, "hidden_activation": "gelu_pytorch_tanh"}
    caps = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 6.0}
    return {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", **BASE, **own, **caps, **keys}


def gemma3_text(**keys: Any) -> dict[str, Any]:
    own = {"head_dim": 20, "query_pre_attn_scalar": 24, "sliding_window": 8, "hidden_activation": "gelu_pytorch_tanh"}
    return {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **BASE, **own, **keys}


def granite(**keys: Any) -> dict[str, Any]:
    own = {"embedding_multiplier": 6, "residual_multiplier": 0.35, "attention_multiplier": 0.2, "logits_scaling": 2.5}
    return {"architectures": ["GraniteForCausalLM"], "model_type": "granite", **BASE, **own, **keys}


def smollm3(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", **BASE, "pad_token_id": 0, **keys}


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


def exaone4(**keys: Any) -> dict[str, Any]:
    return {"architectures": ["Exaone4ForCausalLM"], "model_type": "exaone4", **BASE, **keys}


FAMILIES = {
    "exaone4": exaone4,
    "llama": llama,
    "qwen2": qwen2,
    "phi3": phi3,
    "gemma2": gemma2,
    "gemma3_text": gemma3_text,
    "granite": granite,
    "smollm3": smollm3,
    "qwen3": qwen3,
    "mistral": mistral,
    "ministral": ministral,
    "ministral3": ministral3,
    "olmo2": olmo2,
    "olmo3": olmo3,
}
TIED_BY_DEFAULT = ("gemma2", "gemma3_text", "smollm3")

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
    "gemma2": gemma2(rope_theta=300.0, hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"),
    "gemma2-5": gemma2(
        rope_parameters={"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0},
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        tie_word_embeddings=False,
        attention_bias=True,
        hidden_activation="gelu",
        num_key_value_heads=1,
    ),
    "gemma2-no-caps": gemma2(attn_logit_softcapping=None, final_logit_softcapping=None, head_dim=12),
    "gemma2-defaults": {
        k: v
        for k, v in gemma2(num_key_value_heads=4, head_dim=8).items()
        if k not in ("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "hidden_activation")
    },
    "gemma3_text": gemma3_text(
        num_hidden_layers=4,
        sliding_window_pattern=3,
        rope_theta=2000.0,
        rope_local_base_freq=100.0,
        rope_scaling={"rope_type": "linear", "factor": 3.0},
        cache_implementation="hybrid",
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
    ),
    "gemma3_text-5": gemma3_text(
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "linear", "rope_theta": 60.0, "factor": 1.5},
            "full_attention": {"rope_type": "default", "rope_theta": 800.0},
        },
        final_logit_softcapping=7.0,
        attn_logit_softcapping=3.0,
        attention_bias=True,
        tie_word_embeddings=False,
        hidden_activation="gelu",
        use_bidirectional_attention=False,
    ),
    "gemma3_text-defaults": gemma3_text(num_hidden_layers=7, num_key_value_heads=1),
    "granite": granite(rope_theta=300.0, rope_scaling=None),
    "granite-tied-bias": granite(
        rope_parameters={"rope_theta": 5000.0, "rope_type": "default"},
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
        num_key_value_heads=1,
    ),
    # The default scale of q·k is 1: small heads, lest rounding decide between near-equal scores.
    "granite-defaults": {
        k: v for k, v in granite(head_dim=4).items() if "multiplier" not in k and k != "logits_scaling"
    },
    "smollm3": smollm3(rope_theta=400.0, no_rope_layers=[1, 0, 1], no_rope_layer_interval=4, use_sliding_window=False),
    "smollm3-interval": smollm3(
        rope_parameters={"rope_theta": 700.0, "rope_type": "default"},
        num_hidden_layers=4,
        no_rope_layer_interval=2,
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
    ),
    "smollm3-window": smollm3(no_rope_layers=[0, 1, 0], rope_theta=900.0, **WINDOW),
    "smollm3-layer-types": smollm3(
        no_rope_layers=[1, 0, 1],
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        **WINDOW,
    ),
    "smollm3-defaults": {
        k: v for k, v in smollm3(num_hidden_layers=5).items() if k not in ("num_key_value_heads", "rms_norm_eps")
    },
}

LONGROPE = {
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.8],
    "long_factor": [1.1, 1.5, 2.0, 3.0, 4.5, 7.0],
}
# transformers chooses the factors by the length so far, edgeslm by the context: here both take the same throughout.
SHORT = {"max_position_embeddings": 64, "original_max_position_embeddings": 64}
LONG = {"max_position_embeddings": 128, "original_max_position_embeddings": 16}
CASES |= {
    "phi3-window": phi3(rope_theta=500.0, rope_scaling=None, sliding_window=8, attention_bias=False, resid_pdrop=0.0),
    "phi3-short": phi3(
        rope_theta=500.0,
        rope_scaling={"type": "su", "factor": 4.0, "original_max_position_embeddings": 64, **LONGROPE},
        **SHORT,
    ),
    "phi3-long": phi3(rope_theta=500.0, rope_scaling={"type": "longrope", **LONGROPE}, sliding_window=1000, **LONG),
    "phi3-yarn": phi3(rope_theta=500.0, rope_scaling={"type": "yarn", **LONGROPE, "attention_factor": 1.4}, **LONG),
    "phi3-long-5": phi3(
        hidden_size=64,
        sliding_window=12,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "longrope", "rope_theta": 700.0, "partial_rotary_factor": 0.75, **LONGROPE},
        **LONG,
    ),
    "phi3-partial": phi3(
        hidden_size=64, num_key_value_heads=4, rope_theta=300.0, partial_rotary_factor=0.5, hidden_act="gelu_new"
    ),
    "phi3-defaults": {k: v for k, v in phi3().items() if k not in ("num_key_value_heads", "rms_norm_eps")},
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

CASES |= {
    "exaone4": exaone4(
        sliding_window=8,
        sliding_window_pattern="LLG",
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_theta=300.0,
        rope_scaling={"rope_type": "llama3", **LLAMA3},
    ),
    "exaone4-full": exaone4(
        head_dim=20,
        sliding_window=None,
        layer_types=["full_attention"] * 3,
        tie_word_embeddings=True,
        rope_parameters={"rope_theta": 900.0, "rope_type": "default"},
    ),
    "exaone4-defaults": exaone4(num_hidden_layers=5),
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
    if config["model_type"] in ("gemma2", "gemma3_text"):
        shapes |= gemma_norm_shapes(config)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings", config["model_type"] in TIED_BY_DEFAULT):
        shapes["lm_head.weight"] = (vocab, hidden)
    if config["model_type"] == "phi3":
        return _fused(shapes)
    return shapes


def _norms(config: dict[str, Any], hidden: int, head_dim: int, q: int, kv: int) -> dict[str, int]:
    """Norms of a layer and their widths."""
    qk, family = ("self_attn.q_norm", "self_attn.k_norm"), config["model_type"]
    if family in ("olmo2", "olmo3", "exaone4"):
        outer: tuple[str, ...] = ("post_attention_layernorm", "post_feedforward_layernorm")
        widths = (head_dim, head_dim) if family == "exaone4" else (q, kv)
        return dict(zip(qk, widths, strict=True)) | dict.fromkeys(outer, hidden)
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
        gain = 2.0 if "q_proj" in name or "k_proj" in name or "qkv_proj" in name else 1.0
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


def _fused(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """q, k and v as rows of one tensor, gate and up as rows of another."""
    fused: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        for part in ("q_proj", "k_proj", "v_proj"):
            name = name.replace(f".{part}.", ".qkv_proj.")
        for part in ("gate_proj", "up_proj"):
            name = name.replace(f".{part}.", ".gate_up_proj.")
        fused[name] = (fused[name][0] + shape[0], *shape[1:]) if name in fused else shape
    return fused


def gemma_norm_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The norms that Gemma has and Llama lacks."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(config["num_hidden_layers"]):
        for norm in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
            shapes[f"model.layers.{i}.{norm}.weight"] = (config["hidden_size"],)
        if config["model_type"] == "gemma3_text":
            for norm in ("q_norm", "k_norm"):
                shapes[f"model.layers.{i}.self_attn.{norm}.weight"] = (config["head_dim"],)
    return shapes
