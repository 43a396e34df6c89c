"""The decoder, told once. Every target is an implementation of the calls made here."""

from __future__ import annotations

from edgeslm.builder import Builder, Value
from edgeslm.spec import DecoderSpec


def build(spec: DecoderSpec, b: Builder[Value]) -> Value:
    """Walk the decoder, calling the builder once per operation; returns what ``b.logits`` returned.

    Neither positions, masks, cache lengths nor phases appear here: they belong to the builder.
    """
    eps = spec.norm_eps
    residual_eps = eps * spec.residual_scale**2  # for norms that read the (scaled) residual stream
    x = b.embed(b.token_ids(), "embed", spec.embed_scale)
    for i, block in enumerate(spec.layers):
        a, p = block.mixer, f"layers.{i}."

        h = b.rms_norm(x, p + "attn.norm_in", residual_eps) if block.norm_in else x
        q, k, v = (b.linear(h, f"{p}attn.{name}", a.qkv_bias) for name in "qkv")
        if a.qk_norm:
            per_head = a.qk_norm == "head"
            q = b.rms_norm(q, p + "attn.q_norm", eps, a.n_heads if per_head else 1)
            k = b.rms_norm(k, p + "attn.k_norm", eps, a.n_kv_heads if per_head else 1)
        y = b.linear(b.attention(q, k, v, i, a), p + "attn.o", a.out_bias)
        if block.norm_out:
            y = b.rms_norm(y, p + "attn.norm_out", eps)
        x = b.add(x, y)

        h = b.rms_norm(x, p + "mlp.norm_in", residual_eps) if block.norm_in else x
        gate, up = (b.linear(h, f"{p}mlp.{name}", block.mlp.bias) for name in ("gate", "up"))
        y = b.linear(b.act_mul(gate, up, block.mlp.act), p + "mlp.down", block.mlp.bias)
        if block.norm_out:
            y = b.rms_norm(y, p + "mlp.norm_out", eps)
        x = b.tap(b.add(x, y), f"layers.{i}")

    x = b.rms_norm(b.select_rows(x), "norm", residual_eps)
    return b.logits(x, "embed" if spec.tied else "head", spec.logit_softcap)
