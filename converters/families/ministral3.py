"""Ministral 3 (text): q grows with the position, a step each time the original context has passed."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import (
    attention,
    context_length,
    decoder,
    gated_mlp,
    layer_count,
    llama_names,
)
from edgeslm.converters.rope_kinds import DEFAULT_THETA, original_context, rope_of_section, rope_section
from edgeslm.spec import MAX_CONTEXT, Block, DecoderSpec, Rope

stored_weights = llama_names

_DEFAULT_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def read_spec(config: Config) -> DecoderSpec:
    """No biases; a window on every layer if there is one."""
    context = context_length(config, 262144)
    window = config.integer("sliding_window", context, high=MAX_CONTEXT)
    mixer = attention(config, qkv_bias=False, out_bias=False, n_kv_heads=8, head_dim=128)
    block = Block(replace(mixer, window=window if window < context else 0), gated_mlp(config, bias=False))
    rope = _rope(config, mixer.head_dim, context)
    return decoder(config, [block] * layer_count(config), [rope], context=context, eps=1e-5, tied=False)


def _rope(config: Config, head_dim: int, context: int) -> Rope:
    section = rope_section(config) or Config(_DEFAULT_ROPE, "rope_parameters")
    section.integer("max_position_embeddings", context)  # a copy, which transformers ignores
    beta, period = section.number("llama_4_scaling_beta"), original_context(config, section, context)
    theta = config.number("rope_theta", DEFAULT_THETA)
    return replace(rope_of_section(config, section, head_dim, context, theta), q_beta=beta, q_period=period)
