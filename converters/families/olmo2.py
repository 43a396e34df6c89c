"""OLMo 2: branches are normalised after, not before; q and k over their full width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

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
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import Block, DecoderSpec

_NORM_NAMES = {"attn.norm_out": "post_attention_layernorm", "mlp.norm_out": "post_feedforward_layernorm"}

stored_weights = partial(llama_names, layer_names=LAYER_NAMES | _NORM_NAMES)


def read_spec(config: Config) -> DecoderSpec:
    """``attention_bias`` is that of q, k, v and o."""
    block = olmo_block(config)
    context = context_length(config, 2048)
    ropes = [rope_of(config, block.mixer.head_dim, context)]
    return decoder(config, [block] * layer_count(config), ropes, context=context, eps=1e-5, tied=False)


def olmo_block(config: Config) -> Block:
    """The layer of OLMo 2, with full attention."""
    bias = config.flag("attention_bias", False)
    mixer = replace(attention(config, qkv_bias=bias, out_bias=bias), qk_norm="full")
    return Block(mixer, gated_mlp(config, bias=False), norm_in=False, norm_out=True)
