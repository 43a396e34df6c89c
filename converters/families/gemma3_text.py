"""Gemma 3, text only: Gemma 2 with norms on q and k, and two ropes: of layers with a window and of those without."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import context_length, layer_count, sliding_layers
from edgeslm.converters.families.gemma2 import gemma_attention, gemma_decoder, gemma_window, soft_cap, stored_weights
from edgeslm.converters.rope_kinds import rope_of, rope_of_section
from edgeslm.spec import MAX_LAYERS, DecoderSpec, Rope

__all__ = ["read_spec", "stored_weights"]

_LOCAL, _GLOBAL = 0, 1
_LOCAL_THETA, _GLOBAL_THETA = 1e4, 1e6


def read_spec(config: Config) -> DecoderSpec:
    """Every ``sliding_window_pattern``-th layer sees all tokens, unless ``layer_types`` says otherwise."""
    context = context_length(config, 131072)
    mixer = replace(gemma_attention(config), qk_norm="head")
    soft_cap(config, "attn_logit_softcapping", 0.0)  # stored, but transformers never applies it
    config.integer("_sliding_window_pattern", 6, high=MAX_LAYERS)  # likewise; layer_types comes with it
    pattern = config.integer("sliding_window_pattern", 6, high=MAX_LAYERS)
    slides = sliding_layers(config) or [(i + 1) % pattern != 0 for i in range(layer_count(config))]
    window = gemma_window(config, context)
    local, full = replace(mixer, rope=_LOCAL, window=window), replace(mixer, rope=_GLOBAL)
    ropes = _ropes(config, mixer.head_dim, context)
    return gemma_decoder(config, [local if s else full for s in slides], ropes, context, logit_softcap=0.0)


def _ropes(config: Config, head_dim: int, context: int) -> list[Rope]:
    """By layer type in ``rope_parameters`` (transformers 5); else scaling is for global layers alone (4)."""
    local_theta = config.number("rope_local_base_freq", _LOCAL_THETA)
    nested = config.section("rope_parameters")
    if nested is None:
        scaling = config.section("rope_scaling")
        if scaling is not None and "type" in scaling and "rope_type" not in scaling:
            raise config.refuse("rope_scaling", "rope_type instead of type, which transformers 5 ignores here")
        bare = Config({}, "rope_parameters")
        local = rope_of_section(bare, bare, head_dim, context, local_theta)
        return [local, rope_of(config, head_dim, context, _GLOBAL_THETA)]
    thetas = {
        "sliding_attention": local_theta,
        "full_attention": config.number("rope_theta", _GLOBAL_THETA),
    }
    ropes = [
        rope_of_section(nested, nested.section(kind) or Config({}, kind), head_dim, context, theta)
        for kind, theta in thetas.items()
    ]
    nested.check_all_read()
    return ropes
