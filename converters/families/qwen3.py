"""Qwen3 and what shares its architecture."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import (
    attention,
    context_length,
    decoder,
    gated_mlp,
    llama_names,
)
from edgeslm.converters.families.qwen2 import windows
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import Block, DecoderSpec

stored_weights = llama_names


def read_spec(config: Config) -> DecoderSpec:
    """Each head of q and k is normalised; ``attention_bias`` is that of q, k, v and o; windows as in Qwen2."""
    bias = config.flag("attention_bias", False)
    mixer = attention(config, qkv_bias=bias, out_bias=bias, n_kv_heads=32, head_dim=128)
    mlp = gated_mlp(config, bias=False)
    context = context_length(config, 32768)
    blocks = [Block(replace(mixer, qk_norm="head", window=w if w < context else 0), mlp) for w in windows(config)]
    ropes = [rope_of(config, mixer.head_dim, context)]
    return decoder(config, blocks, ropes, context=context, eps=1e-6, tied=False)
