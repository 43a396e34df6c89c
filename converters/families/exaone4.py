"""EXAONE 4: branches are normalised after, q and k per head; beside windows, full attention does not rotate."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import (
    attention,
    context_length,
    decoder,
    gated_mlp,
    layer_count,
    sliding_layers,
)
from edgeslm.converters.families.olmo2 import stored_weights
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import MAX_CONTEXT, MAX_LAYERS, Block, DecoderSpec

__all__ = ["read_spec", "stored_weights"]


def read_spec(config: Config) -> DecoderSpec:
    """Null ``sliding_window`` is a model without windows, whose layers all rotate."""
    context = context_length(config, 2048)
    full = replace(attention(config, qkv_bias=False, out_bias=False, n_kv_heads=32), qk_norm="head")
    window = config.integer("sliding_window", 0 if "sliding_window" in config else 4096, high=MAX_CONTEXT)
    slides = _sliding(config)
    if window:
        full = replace(full, rope=-1)
    elif any(slides):
        raise config.refuse("sliding_window", "a window, as some layers have sliding_attention")
    local = replace(full, rope=0, window=window if window < context else 0)
    mlp = gated_mlp(config, bias=False)
    blocks = [Block(local if s else full, mlp, norm_in=False, norm_out=True) for s in slides]
    ropes = [rope_of(config, full.head_dim, context)]
    return decoder(config, blocks, ropes, context=context, eps=1e-5, tied=False)


def _sliding(config: Config) -> list[bool]:
    """``layer_types``, else three layers of four; a pattern of letters, as published, only beside ``layer_types``."""
    given = sliding_layers(config)
    if isinstance(config.values.get("sliding_window_pattern"), str):
        config.text("sliding_window_pattern")
        if given is None:
            raise config.refuse("layer_types", "a type for each layer, as sliding_window_pattern is a string")
        return given
    pattern = config.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
    return given or [(i + 1) % pattern != 0 for i in range(layer_count(config))]
