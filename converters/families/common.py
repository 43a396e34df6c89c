"""What families share: the usual keys of a config, and the usual names of tensors.

Sizes must be in the config; what no tensor's shape could contradict takes the family's default in
transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeslm.converters.checkpoint_weights import Stored
from edgeslm.converters.config import Config
from edgeslm.spec import (
    MAX_CONTEXT,
    MAX_LAYERS,
    MAX_WIDTH,
    Attention,
    Block,
    DecoderSpec,
    Mlp,
    Rope,
    tensor_shapes,
)

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

# Part of a layer → its name in checkpoints that follow Llama.
LAYER_NAMES = {
    "attn.norm_in": "input_layernorm",
    "mlp.norm_in": "post_attention_layernorm",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    **{f"attn.{n}": f"self_attn.{n}_proj" for n in "qkvo"},
    **{f"mlp.{n}": f"mlp.{n}_proj" for n in ("gate", "up", "down")},
}
_OUTER_NAMES = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def layer_count(config: Config) -> int:
    """``num_hidden_layers``."""
    return config.integer("num_hidden_layers", high=MAX_LAYERS)


def context_length(config: Config, default: int) -> int:
    """``max_position_embeddings``, in tokens."""
    return config.integer("max_position_embeddings", default, high=MAX_CONTEXT)


def attention(
    config: Config, *, qkv_bias: bool, out_bias: bool, n_kv_heads: int | None = None, head_dim: int | None = None
) -> Attention:
    """Full attention with rope 0 and scale head_dim^-½.

    ``n_kv_heads`` (else as many as heads) and ``head_dim`` (else hidden / heads) hold where the config does not say.
    """
    hidden = config.integer("hidden_size", high=MAX_WIDTH)
    n_heads = config.integer("num_attention_heads", high=MAX_WIDTH)
    n_kv_heads = config.integer("num_key_value_heads", n_kv_heads or n_heads, high=MAX_WIDTH)
    head_dim = config.integer("head_dim", head_dim or max(1, hidden // n_heads), high=MAX_WIDTH)
    return Attention(n_heads, n_kv_heads, head_dim, head_dim**-0.5, rope=0, qkv_bias=qkv_bias, out_bias=out_bias)


def gated_mlp(config: Config, *, bias: bool, act_key: str = "hidden_act", act: str = "silu") -> Mlp:
    """``intermediate_size``, and the activation named by ``act_key`` (``act`` where absent)."""
    name = config.text(act_key, act)
    if name not in ACTIVATIONS:
        raise config.unsupported(act_key, ACTIVATIONS)
    return Mlp(config.integer("intermediate_size", high=MAX_WIDTH), ACTIVATIONS[name], bias)


def sliding_layers(config: Config) -> list[bool] | None:
    """Which layers ``layer_types`` gives a sliding window; None where the config does not say."""
    names = config.texts("layer_types", layer_count(config))
    if names is None:
        return None
    known = ("full_attention", "sliding_attention")
    if not set(names) <= set(known):
        raise config.unsupported("layer_types", known)
    return [name == "sliding_attention" for name in names]


def decoder(
    config: Config, blocks: Sequence[Block], ropes: Sequence[Rope], *, context: int, eps: float, tied: bool
) -> DecoderSpec:
    """The decoder of one block per layer; ``eps`` and ``tied`` hold where the config does not say."""
    distinct = tuple(dict.fromkeys(blocks))
    return DecoderSpec(
        vocab_size=config.integer("vocab_size"),
        hidden=config.integer("hidden_size", high=MAX_WIDTH),
        norm_eps=config.number("rms_norm_eps", eps),
        context_length=context,
        blocks=distinct,
        layout=tuple(distinct.index(block) for block in blocks),
        ropes=tuple(ropes),
        tied=config.flag("tie_word_embeddings", tied),
    )


def llama_names(
    spec: DecoderSpec, config: Config, layer_names: Mapping[str, str] = LAYER_NAMES, norm_offset: float = 0.0
) -> dict[str, Stored]:
    """Each weight of ``spec`` where checkpoints that follow Llama store it; ``norm_offset`` is added to every norm.

    It needs nothing from ``config``, which is there so that this is a family's ``stored_weights`` as it stands.
    """
    stored = {}
    for name in tensor_shapes(spec):
        part, kind = (name.removesuffix(".bias"), "bias") if name.endswith(".bias") else (name, "weight")
        if part in _OUTER_NAMES:
            place = _OUTER_NAMES[part]
        else:
            _, index, layer_part = part.split(".", 2)
            place = f"model.layers.{index}.{layer_names[layer_part]}"
        is_norm = "norm" in name.rpartition(".")[2]
        stored[name] = Stored(f"{place}.{kind}", offset=norm_offset if is_norm else 0.0)
    return stored
