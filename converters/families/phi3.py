"""Phi-3, Phi-3.5-mini, Phi-4 and Phi-4-mini."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.checkpoint_weights import Stored
from edgeslm.converters.config import Config
from edgeslm.converters.families.common import (
    LAYER_NAMES,
    attention,
    context_length,
    decoder,
    gated_mlp,
    layer_count,
    llama_names,
)
from edgeslm.converters.rope_kinds import DEFAULT_THETA, KINDS, Base, rope_section, rotary_width, scaled
from edgeslm.spec import MAX_CONTEXT, Block, DecoderSpec, Rope

# Old checkpoints name longrope "su", or "yarn", which it is not.
ROPES = {"default": KINDS["default"], **dict.fromkeys(("longrope", "su", "yarn"), KINDS["longrope"])}

_FUSED = {"attn.q": "qkv", "attn.k": "qkv", "attn.v": "qkv", "mlp.gate": "gate_up", "mlp.up": "gate_up"}
_LAYER_NAMES = LAYER_NAMES | {part: f"{'self_attn' if n == 'qkv' else 'mlp'}.{n}_proj" for part, n in _FUSED.items()}


def read_spec(config: Config) -> DecoderSpec:
    """No biases; a window, if any, on every layer; part of a head may be rotated."""
    context = context_length(config, 4096)
    window = config.integer("sliding_window", 0, high=MAX_CONTEXT)
    mixer = replace(attention(config, qkv_bias=False, out_bias=False), window=window if window < context else 0)
    block = Block(mixer, gated_mlp(config, bias=False))
    ropes = [_rope(config, mixer.head_dim, context)]
    return decoder(config, [block] * layer_count(config), ropes, context=context, eps=1e-5, tied=False)


def _rope(config: Config, head_dim: int, context: int) -> Rope:
    """The original context is the config's own; transformers overwrites what the rope's section says of it."""
    section = rope_section(config) or Config({}, "rope_parameters")
    theta = section.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    section.integer("original_max_position_embeddings", context)
    original = config.integer("original_max_position_embeddings", 4096)
    return scaled(section, ROPES, Base(theta, rotary_width(config, section, head_dim), context, original))


def stored_weights(spec: DecoderSpec, config: Config) -> dict[str, Stored]:
    """q, k and v are rows of one tensor, one after the other; so are gate and up."""
    stored = llama_names(spec, config, _LAYER_NAMES)
    for i, block in enumerate(spec.layers):
        a = block.mixer
        queries, keys = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
        for part, row in (("attn.k", queries), ("attn.v", queries + keys), ("mlp.up", block.mlp.inner)):
            name = f"layers.{i}.{part}"
            stored[name] = replace(stored[name], first_row=row)
    return stored
