"""A Llama decoder for training.

Its weights bear the names of Hugging Face's LlamaForCausalLM, so that a checkpoint is one of that family.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from batches import Batch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Pair = tuple[Tensor, Tensor]  # keys and values, (rows, heads, tokens, head)


@dataclass(frozen=True)
class Past:
    """What a layer has seen of each sentence's prompt, and of the own tokens of each of its `width` lines."""

    prompt: Pair
    own: Pair | None
    width: int


@dataclass(frozen=True)
class Size:
    """`prefix`: the tokens of a prompt see those behind them, too, as in an encoder; no runtime has that, but a teacher
    may."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    context: int = 512
    prefix: bool = False
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    def config(self) -> dict[str, object]:
        """config.json, as transformers writes it."""
        return {
            "architectures": ["PrefixDecoder" if self.prefix else "LlamaForCausalLM"],
            "model_type": "prefix-llama" if self.prefix else "llama",
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
        return Size(*(int(str(config[name])) for name in names), prefix=config["model_type"] == "prefix-llama")


class Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.head, self.kv_heads, self.group = size.head, size.kv_heads, size.heads // size.kv_heads
        self.q_proj = nn.Linear(size.hidden, size.hidden, bias=False)
        self.k_proj = nn.Linear(size.hidden, size.kv_heads * size.head, bias=False)
        self.v_proj = nn.Linear(size.hidden, size.kv_heads * size.head, bias=False)
        self.o_proj = nn.Linear(size.hidden, size.hidden, bias=False)

    def heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.head)).transpose(1, 2)

    def forward(self, x: Tensor, turn: Pair, mask: Tensor | None, past: Past | None) -> tuple[Tensor, Pair]:
        q, k, v = (
            rotate(self.heads(self.q_proj(x)), turn),
            rotate(self.heads(self.k_proj(x)), turn),
            self.heads(self.v_proj(x)),
        )
        if past is None:
            wide_k, wide_v = (k, v) if self.group == 1 else (x.repeat_interleave(self.group, 1) for x in (k, v))
            return self.o_proj(attend(q, wide_k, wide_v, mask).transpose(1, 2).flatten(2)), (k, v)
        if past.own:
            k, v = torch.cat((past.own[0], k), 2), torch.cat((past.own[1], v), 2)
        assert mask is not None
        return self.o_proj(self.lines(q, (k, v), past, mask)), (k, v)

    def lines(self, q: Tensor, own: Pair, past: Past, mask: Tensor) -> Tensor:
        """One token of each line, (lines, heads, 1, head) → (lines, 1, hidden); a prompt's keys are read once for all
        of its lines."""
        own_shape = (-1, self.kv_heads, self.group)  # rows: lines
        all_shape = (-1, past.width, *own_shape[1:])  # rows: sentences

        def together(x: Tensor) -> Tensor:  # → (sentences, KV heads, width × group, …)
            return x.unflatten(0, all_shape[:2]).transpose(1, 2).flatten(2, 3)

        def apart(x: Tensor) -> Tensor:
            return x.unflatten(2, (past.width, self.group)).transpose(1, 2).flatten(0, 1)

        q = q.reshape(*own_shape, self.head)
        of_prompt = together(q) @ past.prompt[0].transpose(2, 3)
        of_own = together(q @ own[0].transpose(2, 3))
        scores = torch.cat((of_prompt.masked_fill(~mask, -torch.inf), of_own), 3) * self.head**-0.5
        shares = scores.softmax(3, torch.float32).to(q.dtype)
        split = of_prompt.shape[3]
        mixed = apart(shares[..., :split] @ past.prompt[1]) + apart(shares[..., split:]) @ own[1]
        return mixed.flatten(1).unsqueeze(1)


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

    def forward(self, x: Tensor, turn: Pair, mask: Tensor | None, past: Past | None) -> tuple[Tensor, Pair]:
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
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        past: list[Past] | None = None,
    ) -> tuple[Tensor, list[Pair]]:
        """ids (rows, tokens) → states (rows, tokens, hidden) and the keys and values of each layer.

        positions (rows, tokens) default to 0, 1, …; a mask, True where a token may look, broadcasts to (rows, heads,
        tokens, tokens); without one, each looks at those before it. With a past, rows are lines of one token, the mask
        is that of the prompts, and the keys and values are the lines' own.
        """
        if positions is None:
            turn = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        else:
            turn = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        x, kept = self.drop(self.embed_tokens(ids)), []
        if torch.is_autocast_enabled(ids.device.type):
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, turn, mask, past[index] if past else None)
            kept.append(pair)
        return self.norm(x), kept

    def logits(self, states: Tensor) -> Tensor:
        return states @ self.embed_tokens.weight.T

    def mask(self, prompts: Tensor, width: int) -> Tensor | None:
        """Where the tokens of rows may look whose prompts have these lengths."""
        if not self.size.prefix:
            return None
        places = torch.arange(width, device=prompts.device)
        return (places <= places[:, None]) | (places < prompts[:, None])[:, None, None]

    def answers(self, batch: Batch) -> Tensor:
        """Logits (n, vocabulary) of what a batch asks for."""
        states = self(batch.ids, mask=self.mask(batch.prompts, batch.ids.shape[1]))[0]
        return self.logits(states.flatten(0, 1).index_select(0, batch.asked))

    def loss(self, batch: Batch, smoothing: float, soft: float = 0.0) -> Tensor:
        """Mean cross entropy, in nats, of a batch's answers.

        `soft` is the share in it of the cross entropy with what a teacher gives each token: word-level distillation
        (Kim and Rush 2016, https://aclanthology.org/D16-1139).
        """
        wanted = batch.ids.flatten()[batch.asked + 1]
        return cross(self.answers(batch), wanted, smoothing, batch.likely, soft)

    def compile_for_training(self) -> None:
        """Compiles a layer, once for all of them: on a GPU, much of the time goes into small steps. (The loss would be
        compiled again and again, for other numbers of answers.)"""
        for layer in self.layers:
            layer.compile(dynamic=True)


def cross(logits: Tensor, wanted: Tensor, smoothing: float, likely: Pair | None, soft: float) -> Tensor:
    """`likely`: the ids and probabilities (answers, k) of the tokens that a teacher finds likeliest; what is left of
    its probability is taken to lie evenly on all tokens."""
    found = logits.float().log_softmax(-1)
    even = found.mean(-1)
    loss = (smoothing - 1) * found.gather(1, wanted[:, None])[:, 0] - smoothing * even
    if likely and soft:
        ids, shares = likely
        given = -(shares * found.gather(1, ids)).sum(1) - (1 - shares.sum(1)) * even
        loss = (1 - soft) * loss + soft * given
    return loss.mean()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """cuDNN's attention, which PyTorch prefers on some GPUs, makes a plan for each shape: batches have many."""
    if mask is None:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(3, torch.float32).to(v.dtype) @ v


def rotate(x: Tensor, turn: Pair) -> Tensor:
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
