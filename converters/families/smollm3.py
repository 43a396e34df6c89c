"""SmolLM3: Llama with layers that do not rotate."""

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
from edgeslm.spec import MAX_CONTEXT, MAX_LAYERS, Attention, Block, DecoderSpec

stored_weights = llama_names


def read_spec(config: Config) -> DecoderSpec:
    """Null ``num_key_value_heads`` means as many as heads, an absent one 4, as in transformers."""
    bias = config.flag("attention_bias", False)
    kv_heads = None if "num_key_value_heads" in config else 4
    mixer = attention(config, qkv_bias=bias, out_bias=bias, n_kv_heads=kv_heads)
    mlp = gated_mlp(config, bias=config.flag("mlp_bias", False))
    context = context_length(config, 32768)
    config.integer("max_window_layers", 0, low=0)  # published, but transformers does not look at it
    blocks = [Block(m, mlp) for m in _mixers(config, mixer, context)]
    ropes = [rope_of(config, mixer.head_dim, context, theta=2e6)]
    return decoder(config, blocks, ropes, context=context, eps=1e-6, tied=True)


def _mixers(config: Config, mixer: Attention, context: int) -> list[Attention]:
    """The attention of each layer; where windows are on, the layers without rotation have them by default."""
    rotates = _rotating_layers(config)
    window = config.integer("sliding_window", 0, low=0, high=MAX_CONTEXT)
    if not config.flag("use_sliding_window", False):
        window = 0
    slides = sliding_layers(config)
    if slides is None:
        slides = [window > 0 and not r for r in rotates]
    if any(slides) and not window:
        raise config.refuse("layer_types", "full_attention alone, as no sliding window is on")
    window = window if window < context else 0
    return [
        replace(mixer, rope=0 if r else -1, window=window if s else 0) for r, s in zip(rotates, slides, strict=True)
    ]


def _rotating_layers(config: Config) -> list[bool]:
    """``no_rope_layers``, whose 0 means no rotation; else every ``no_rope_layer_interval``-th layer does not rotate."""
    layers = layer_count(config)
    interval = config.integer("no_rope_layer_interval", 4, high=MAX_LAYERS)
    flags = config.integers("no_rope_layers", 0, 1)
    if flags is None:
        return [(i + 1) % interval != 0 for i in range(layers)]
    if len(flags) < layers:
        raise config.refuse("no_rope_layers", f"a number for each of {layers} layers")
    return [flag == 1 for flag in flags[:layers]]
