"""A Llama decoder for training.

Its weights bear the names of Hugging Face's LlamaForCausalLM, so that a checkpoint is one of that family.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Size:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    context: int = 512
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    def config(self) -> dict[str, object]:
        """config.json, as transformers writes it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.eps,
            "rope_parameters": {"rope_theta": self.theta, "rope_type": "default"},
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "use_cache": True,
        }

    @staticmethod
    def of(config: dict[str, object]) -> Size:
        names = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
            "vocab_size",
            "max_position_embeddings",
        )
        return Size(*(int(str(config[name])) for name in names))


class Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.head, self.group = size.head, size.heads // size.kv_heads
        self.q_proj = nn.Linear(size.hidden, size.hidden, bias=False)
        self.k_proj = nn.Linear(size.hidden, size.kv_heads * size.head, bias=False)
        self.v_proj = nn.Linear(size.hidden, size.kv_heads * size.head, bias=False)
        self.o_proj = nn.Linear(size.hidden, size.hidden, bias=False)

    def heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.head)).transpose(1, 2)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (
            rotate(self.heads(self.q_proj(x)), turn),
            rotate(self.heads(self.k_proj(x)), turn),
            self.heads(self.v_proj(x)),
        )
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        wide_k, wide_v = k.repeat_interleave(self.group, 1), v.repeat_interleave(self.group, 1)
        mixed = functional.scaled_dot_product_attention(q, wide_k, wide_v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), (k, v)


class Mlp(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size.hidden, size.inner, bias=False)
        self.up_proj = nn.Linear(size.hidden, size.inner, bias=False)
        self.down_proj = nn.Linear(size.inner, size.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(size.hidden, eps=size.eps)
        self.self_attn = Attention(size)
        self.post_attention_layernorm = nn.RMSNorm(size.hidden, eps=size.eps)
        self.mlp = Mlp(size)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, kept = self.self_attn(self.input_layernorm(x), turn, mask, past)
        x = x + self.drop(attended)
        return x + self.drop(self.mlp(self.post_attention_layernorm(x))), kept


class Decoder(nn.Module):
    def __init__(self, size: Size, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(size.vocabulary, size.hidden)
        self.layers = nn.ModuleList(Layer(size, dropout) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.hidden, eps=size.eps)
        self.drop = nn.Dropout(dropout)
        angles = torch.outer(
            torch.arange(size.context), size.theta ** (-torch.arange(0, size.head, 2) / size.head)
        ).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.apply(begin)

    def forward(
        self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None, past: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """ids (rows, tokens) → states (rows, tokens, hidden) and the keys and values of each layer.

        positions (rows, tokens) default to 0, 1, …; a mask, True where a token may look, broadcasts to
        (rows, heads, tokens, past + tokens).
        """
        if positions is None:
            turn = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        else:
            turn = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        x, kept = self.drop(self.embed_tokens(ids)), []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, turn, mask, past[index] if past else None)
            kept.append(pair)
        return self.norm(x), kept

    def logits(self, states: Tensor) -> Tensor:
        return states @ self.embed_tokens.weight.T

    def loss(self, ids: Tensor, asked: Tensor, smoothing: float) -> Tensor:
        """Mean cross entropy, in nats, of the tokens behind the `asked` positions.

        ids (rows, tokens); asked (n,) are indices into ids laid out flat.
        """
        states = self(ids)[0].flatten(0, 1)[asked]
        return functional.cross_entropy(
            self.logits(states).float(), ids.flatten()[asked + 1], label_smoothing=smoothing
        )


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    half = x.shape[-1] // 2
    return (x * turn[0] + torch.cat((-x[..., half:], x[..., :half]), -1) * turn[1]).to(x.dtype)


def begin(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def save(model: Decoder, folder: Path) -> None:
    """Writes config.json, generation_config.json and model.safetensors in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"model.{name}": tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / ".model.safetensors", metadata={"format": "pt"})
    (folder / ".model.safetensors").replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.size.config(), indent=1) + "\n")
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": False}, indent=1) + "\n"
    )


def load(folder: Path, dropout: float = 0.0) -> Decoder:
    model = Decoder(Size.of(json.loads((folder / "config.json").read_text())), dropout)
    weights = {
        name.removeprefix("model."): tensor.float()
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name != "lm_head.weight"
    }
    model.load_state_dict(weights)
    return model
