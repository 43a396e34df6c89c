"""Granite 3 (dense): Llama with multipliers on embeddings, residual branches, attention scores and logits."""

from __future__ import annotations

from dataclasses import replace

from edgeslm.converters.checkpoint_weights import Stored
from edgeslm.converters.config import Config
from edgeslm.converters.families import llama
from edgeslm.converters.families.common import llama_names
from edgeslm.spec import DecoderSpec

# The last linear of each branch: the residual multiplier folds into it.
_BRANCH_ENDS = ("attn.o", "attn.o.bias", "mlp.down", "mlp.down.bias")


def read_spec(config: Config) -> DecoderSpec:
    """Llama's keys with Llama's defaults; ``attention_multiplier`` is the whole scale of q·k, 1 by default."""
    spec = llama.read_spec(config)
    scale = config.number("attention_multiplier", 1.0)
    blocks = tuple(replace(block, mixer=replace(block.mixer, scale=scale)) for block in spec.blocks)
    return replace(spec, blocks=blocks, embed_scale=config.number("embedding_multiplier", 1.0))


def stored_weights(spec: DecoderSpec, config: Config) -> dict[str, Stored]:
    """``residual_multiplier`` goes into the ends of the branches, ``logits_scaling`` divides the final norm."""
    residual = config.number("residual_multiplier", 1.0)
    stored = llama_names(spec, config)
    for name, place in stored.items():
        if name.endswith(_BRANCH_ENDS):
            stored[name] = replace(place, scale=residual)
    stored["norm"] = replace(stored["norm"], scale=1 / config.number("logits_scaling", 1.0))
    return stored
