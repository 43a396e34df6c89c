"""Decoders that a target must get right: one configuration a feature, and one change a field of the spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from tiny_decoders import (
    F32Array,
    make_ids,
    make_rope,
    make_spec,
    make_weights,
    relative_error,
    replace_attention,
    replace_block,
    replace_mlp,
    replace_rope,
)

from edgeslm.engines.reference import ReferenceEngine
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope

CONFIGS: dict[str, DecoderSpec] = {
    "head_dim 16, fused rotation": make_spec(),
    "head_dim 8": make_spec(head_dim=8),
    "head_dim 20, padded heads": make_spec(head_dim=20),
    "head_dim 10, hidden and inner no multiple of the group": make_spec(head_dim=10, hidden=60, inner=70),
    "head_dim over hidden / heads, one kv head": make_spec(head_dim=32, kv_heads=1),
    "as many kv heads as heads, untied": make_spec(kv_heads=4, tied=False),
    "biases": make_spec(attention={"qkv_bias": True, "out_bias": True}, mlp_bias=True, tied=False),
    "partial rotation, fused": make_spec(head_dim=32, rotary=16),
    "partial rotation, explicit": make_spec(head_dim=20, rotary=12),
    "no rotation": make_spec(attention={"rope": -1}),
    "window": make_spec(attention={"window": 8}),
    "window, explicit rotation": make_spec(head_dim=8, attention={"window": 8}),
    "softcaps": make_spec(attention={"softcap": 3.0}, logit_softcap=4.0),
    "q/k norm per head": make_spec(attention={"qk_norm": "head"}),
    "q/k norm over the width": make_spec(head_dim=8, attention={"qk_norm": "full"}),
    "norms after, embedding scale": make_spec(norm_out=True, embed_scale=8.0),
    "gelu": make_spec(act="gelu"),
    "gelu_tanh": make_spec(act="gelu_tanh"),
    "query temperature": make_spec(rope=make_rope(16, q_beta=0.5, q_period=8)),
}


def rich_spec(context: int = 64) -> DecoderSpec:
    """Every field at work; the long frequencies where the context is longer than 48."""
    attention = {"qk_norm": "head", "window": 8, "softcap": 5.0, "qkv_bias": True, "out_bias": True}
    short = make_rope(16).inv_freq
    rope = Rope(short, 1.2, tuple(0.5 * f for f in short), 1.3, 48, q_beta=0.5, q_period=8)
    scales = {"embed_scale": 3.0, "logit_softcap": 6.0, "residual_scale": 0.5}
    spec = make_spec(attention=attention, rope=rope, norm_out=True, mlp_bias=True, context=context, **scales)
    return dataclasses.replace(spec, norm_eps=0.05)


# One change per field; the oracle answers each with other logits.
MUTATIONS: dict[tuple[type, str], Callable[[DecoderSpec], DecoderSpec]] = {
    (DecoderSpec, "vocab_size"): lambda s: dataclasses.replace(s, vocab_size=120),
    (DecoderSpec, "hidden"): lambda s: dataclasses.replace(s, hidden=72),
    (DecoderSpec, "norm_eps"): lambda s: dataclasses.replace(s, norm_eps=0.2),
    (DecoderSpec, "context_length"): lambda s: dataclasses.replace(s, context_length=40),
    (DecoderSpec, "blocks"): lambda s: dataclasses.replace(s, blocks=(*s.blocks, PLAIN), layout=(0, 1)),
    (DecoderSpec, "layout"): lambda s: dataclasses.replace(s, layout=(0,)),
    (DecoderSpec, "ropes"): lambda s: dataclasses.replace(s, ropes=(make_rope(8),)),
    (DecoderSpec, "tied"): lambda s: dataclasses.replace(s, tied=False),
    (DecoderSpec, "embed_scale"): lambda s: dataclasses.replace(s, embed_scale=1.0),
    (DecoderSpec, "logit_softcap"): lambda s: dataclasses.replace(s, logit_softcap=0.0),
    (DecoderSpec, "residual_scale"): lambda s: dataclasses.replace(s, residual_scale=1.0),
    (Block, "mixer"): lambda s: replace_attention(s, n_heads=8),
    (Block, "mlp"): lambda s: replace_mlp(s, inner=70),
    (Block, "norm_in"): lambda s: replace_block(dataclasses.replace(s, residual_scale=1.0), norm_in=False),
    (Block, "norm_out"): lambda s: replace_block(s, norm_out=False),
    (Attention, "n_heads"): lambda s: replace_attention(s, n_heads=2),
    (Attention, "n_kv_heads"): lambda s: replace_attention(s, n_kv_heads=4),
    (Attention, "head_dim"): lambda s: replace_attention(s, head_dim=20),
    (Attention, "scale"): lambda s: replace_attention(s, scale=0.5),
    (Attention, "rope"): lambda s: replace_attention(s, rope=-1),
    (Attention, "window"): lambda s: replace_attention(s, window=9),
    (Attention, "qk_norm"): lambda s: replace_attention(s, qk_norm="full"),
    (Attention, "softcap"): lambda s: replace_attention(s, softcap=2.0),
    (Attention, "qkv_bias"): lambda s: replace_attention(s, qkv_bias=False),
    (Attention, "out_bias"): lambda s: replace_attention(s, out_bias=False),
    (Mlp, "inner"): lambda s: replace_mlp(s, inner=64),
    (Mlp, "act"): lambda s: replace_mlp(s, act="gelu"),
    (Mlp, "bias"): lambda s: replace_mlp(s, bias=False),
    (Rope, "inv_freq"): lambda s: replace_rope(s, inv_freq=(0.3,) * 8),
    (Rope, "scale"): lambda s: replace_rope(s, scale=2.0),
    (Rope, "long_inv_freq"): lambda s: replace_rope(s, long_inv_freq=(0.3,) * 8),
    (Rope, "long_scale"): lambda s: replace_rope(s, long_scale=2.0),
    (Rope, "switch_at"): lambda s: replace_rope(s, switch_at=80),
    (Rope, "q_beta"): lambda s: replace_rope(s, q_beta=2.0),
    (Rope, "q_period"): lambda s: replace_rope(s, q_period=3),
}
PLAIN = make_spec(attention={"softcap": 1.0}).blocks[0]
OF_SHORT_CONTEXTS = {(Rope, "inv_freq"), (Rope, "scale")}


def mutated(field: tuple[type, str], tokens: int = 40) -> tuple[DecoderSpec, npt.NDArray[Any], F32Array]:
    """A spec with this field changed, ids, and the oracle's logits for them, which differ from those without."""
    base = rich_spec(40 if field in OF_SHORT_CONTEXTS else 64)
    changed = MUTATIONS[field](base)
    ids = make_ids(changed, tokens)
    before, after = (ReferenceEngine(s, make_weights(s)).new_session().forward(ids, "all") for s in (base, changed))
    assert before.shape != after.shape or relative_error(before, after) > 1e-3
    return changed, ids, after
