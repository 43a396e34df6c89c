"""Qwen2, Qwen2.5 and what shares their architecture (DeepSeek-R1-Distill-Qwen)."""

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
from edgeslm.spec import MAX_CONTEXT, MAX_LAYERS, Block, DecoderSpec

stored_weights = llama_names


def read_spec(config: Config) -> DecoderSpec:
    """q, k and v have biases, o has none; some layers may have a sliding window."""
    mixer = attention(config, qkv_bias=True, out_bias=False)
    mlp = gated_mlp(config, bias=False)
    context = context_length(config, 32768)
    blocks = [Block(replace(mixer, window=w if w < context else 0), mlp) for w in windows(config)]
    ropes = [rope_of(config, mixer.head_dim, context)]
    return decoder(config, blocks, ropes, context=context, eps=1e-6, tied=False)


def windows(config: Config) -> list[int]:
    """Window of each layer, 0 for full attention: by ``layer_types``, else from ``max_window_layers`` on."""
    layers = layer_count(config)
    # Configs carry these keys even where windows are off. Here null is not the default, but no window.
    window = config.integer("sliding_window", 0 if "sliding_window" in config else 4096, high=MAX_CONTEXT)
    first = config.integer("max_window_layers", 28, low=0, high=MAX_LAYERS)
    if not config.flag("use_sliding_window", False):
        window = 0
    slides = sliding_layers(config)
    if slides is None:
        return [window if i >= first else 0 for i in range(layers)]
    if any(slides) and not window:
        raise config.refuse("layer_types", "full_attention alone, as use_sliding_window is off")
    return [window if s else 0 for s in slides]
