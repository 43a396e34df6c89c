"""Llama 2, 3, 3.1, 3.2 and what shares their architecture (TinyLlama, SmolLM2, DeepSeek-R1-Distill-Llama)."""

from __future__ import annotations

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import (
    attention,
    context_length,
    decoder,
    gated_mlp,
    layer_count,
    llama_names,
)
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import Block, DecoderSpec

stored_weights = llama_names


def read_spec(config: Config) -> DecoderSpec:
    """``attention_bias`` is that of q, k, v and o; ``mlp_bias`` that of gate, up and down."""
    bias = config.flag("attention_bias", False)
    mixer = attention(config, qkv_bias=bias, out_bias=bias)
    block = Block(mixer, gated_mlp(config, bias=config.flag("mlp_bias", False)))
    context = context_length(config, 2048)
    ropes = [rope_of(config, mixer.head_dim, context)]
    return decoder(config, [block] * layer_count(config), ropes, context=context, eps=1e-6, tied=False)
