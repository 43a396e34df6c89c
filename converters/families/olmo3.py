"""OLMo 3: OLMo 2 with a window on three layers of four, whose rope is one of its own."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.config import Config
from edgeslm.converters.families.common import context_length, decoder, layer_count, sliding_layers
from edgeslm.converters.families.olmo2 import olmo_block, stored_weights
from edgeslm.converters.rope_kinds import rope_of_section
from edgeslm.spec import MAX_CONTEXT, DecoderSpec, Rope

__all__ = ["read_spec", "stored_weights"]

_THETA = 500000.0


def read_spec(config: Config) -> DecoderSpec:
    """Rope 0 is that of layers with full attention (yarn, where the context was stretched), rope 1 of the others."""
    full = olmo_block(config)
    context = context_length(config, 2048)
    window = config.integer("sliding_window", 0 if "sliding_window" in config else 4096, high=MAX_CONTEXT)
    slides = sliding_layers(config) or [(i + 1) % 4 != 0 for i in range(layer_count(config))]
    if any(slides) and not window:
        raise config.refuse("sliding_window", "a window, as some layers have sliding_attention")
    local = replace(full, mixer=replace(full.mixer, rope=1, window=window if window < context else 0))
    ropes = _ropes(config, full.mixer.head_dim, context)
    blocks = [local if s else full for s in slides]
    return decoder(config, blocks, ropes, context=context, eps=1e-5, tied=False)


def _ropes(config: Config, head_dim: int, context: int) -> list[Rope]:
    """Ropes of full and of sliding attention: ``rope_parameters`` has one section each, ``rope_scaling`` is of full."""
    theta = config.number("rope_theta", _THETA)
    nested = config.section("rope_parameters")
    if nested:
        full, local = nested.section("full_attention"), nested.section("sliding_attention")
        nested.check_all_read()
    else:
        full, local = config.section("rope_scaling"), None
    if theta != _THETA and not (local and "rope_theta" in local):  # transformers 5 takes it for full attention alone
        sections = "rope_parameters with a rope_theta for each of full_attention and sliding_attention"
        raise config.unsupported("rope_theta", [f"{_THETA:.0f} (else give {sections})"])
    return [_rope(section, theta, head_dim, context) for section in (full, local)]


def _rope(section: Config | None, theta: float, head_dim: int, context: int) -> Rope:
    section = section or Config({}, "rope_parameters")
    if not section.flag("truncate", True):  # transformers looks for it in another place
        raise section.unsupported("truncate", ["true"])
    return rope_of_section(Config({}, "rope_parameters"), section, head_dim, context, theta)
