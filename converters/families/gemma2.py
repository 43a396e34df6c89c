"""Gemma 2: norms before and after each branch, soft caps, and windows on every other layer."""

from __future__ import annotations

from collections.abc import Sequence
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
    sliding_layers,
)
from edgeslm.converters.rope_kinds import rope_of
from edgeslm.spec import MAX_CONTEXT, Attention, Block, DecoderSpec, Mlp, Rope

_NAMES = {
    **LAYER_NAMES,
    "attn.norm_out": "post_attention_layernorm",
    "mlp.norm_in": "pre_feedforward_layernorm",
    "mlp.norm_out": "post_feedforward_layernorm",
}


def read_spec(config: Config) -> DecoderSpec:
    """Layers 0, 2, 4 … have a window unless ``layer_types`` says otherwise."""
    context = context_length(config, 8192)
    mixer = replace(gemma_attention(config), softcap=soft_cap(config, "attn_logit_softcapping", 50.0))
    slides = sliding_layers(config) or [i % 2 == 0 for i in range(layer_count(config))]
    window = gemma_window(config, context)
    mixers = [replace(mixer, window=window if s else 0) for s in slides]
    ropes = [rope_of(config, mixer.head_dim, context)]
    return gemma_decoder(config, mixers, ropes, context, logit_softcap=30.0)


def stored_weights(spec: DecoderSpec, config: Config) -> dict[str, Stored]:
    """Norms are stored as what they differ from 1."""
    return llama_names(spec, config, _NAMES, norm_offset=1.0)


def gemma_attention(config: Config) -> Attention:
    """Full attention whose scale is ``query_pre_attn_scalar``^-½, not that of its head_dim."""
    bias = config.flag("attention_bias", False)
    mixer = attention(config, qkv_bias=bias, out_bias=bias, n_kv_heads=4, head_dim=256)
    return replace(mixer, scale=config.number("query_pre_attn_scalar", 256) ** -0.5)


def soft_cap(config: Config, key: str, default: float) -> float:
    """A cap; null means none, as in transformers."""
    return config.number(key, 0.0 if key in config else default)


def gemma_window(config: Config, context: int) -> int:
    """The window of the layers that have one, 0 where it cannot bind; null is refused, as in transformers."""
    window = config.integer("sliding_window", None if "sliding_window" in config else 4096, high=MAX_CONTEXT)
    return window if window < context else 0


def gemma_decoder(
    config: Config, mixers: Sequence[Attention], ropes: Sequence[Rope], context: int, *, logit_softcap: float
) -> DecoderSpec:
    """One block per mixer; ``logit_softcap`` holds where the config does not say."""
    mlp = _mlp(config)
    blocks = [Block(mixer, mlp, norm_out=True) for mixer in mixers]
    spec = decoder(config, blocks, ropes, context=context, eps=1e-6, tied=True)
    cap = soft_cap(config, "final_logit_softcapping", logit_softcap)
    return replace(spec, embed_scale=spec.hidden**0.5, logit_softcap=cap)


def _mlp(config: Config) -> Mlp:
    """By ``hidden_activation``; transformers ignores ``hidden_act``, so it must not say anything else."""
    name = config.text("hidden_activation", "gelu_pytorch_tanh")
    if config.text("hidden_act", name) != name:
        raise config.refuse("hidden_act", f"the same as hidden_activation ({name!r:.80})")
    return gated_mlp(config, bias=False, act_key="hidden_activation", act=name)
