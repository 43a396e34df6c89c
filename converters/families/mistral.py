"""Mistral 7B, Mistral Nemo, Mistral Small 24B (text) and what shares their architecture."""

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
    sliding_layers,
)
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import MAX_CONTEXT, Block, DecoderSpec

stored_weights = llama_names


def read_spec(config: Config) -> DecoderSpec:
    """No biases; a window on every layer, or by ``layer_types``, where transformers takes it for a Ministral."""
    kv_heads = None if "num_key_value_heads" in config else 8  # null means as many as heads
    mixer = attention(config, qkv_bias=False, out_bias=False, n_kv_heads=kv_heads)
    mlp = gated_mlp(config, bias=False)
    context = context_length(config, 131072)
    blocks = [Block(replace(mixer, window=w if w < context else 0), mlp) for w in _windows(config)]
    ropes = [rope_of(config, mixer.head_dim, context)]
    return decoder(config, blocks, ropes, context=context, eps=1e-6, tied=False)


def _windows(config: Config) -> list[int]:
    """Window of each layer, 0 for full attention."""
    # Here null is not the default, but no window.
    window = config.integer("sliding_window", 0 if "sliding_window" in config else 4096, high=MAX_CONTEXT)
    slides = sliding_layers(config)
    if slides is None:
        return [window] * layer_count(config)
    if any(slides) and not window:
        raise config.refuse("sliding_window", "a window, as layer_types names sliding_attention")
    return [window if s else 0 for s in slides]
