"""Will it fit, and how fast will it be? Memory from the decoder's shape, time from a device's rates.

    decode      seconds a token = weights read / (read rate x efficiency) + attention + layers x layer time
    prefill     seconds a prompt = multiply-adds / rate + attention + output head + layers x layer time x chunks
    attention   multiply-adds of scores and values / attention rate; for one token at least keys and values / read rate

Weights read for a token: all matrices but the embedding, of which it reads a row; a tied output head is the embedding,
and is read whole. Of a prompt only the last token goes on behind the last attention: what follows is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from edgeslm.devices import Device, Rates
from edgeslm.footprint import Footprint, Formats, footprint, weight_bytes
from edgeslm.memory import cache_bytes
from edgeslm.spec import Attention, DecoderSpec, tensor_shapes

CHUNK = 256  # rows of one pass: SLM_CHUNK of native/program.h
PROCESS_BYTES = 120_000_000  # Python, NumPy, the kernels and a large tokenizer, beside the model


@dataclass(frozen=True)
class Term:
    """One summand of a time."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A decoder on a device, as predicted."""

    memory: Footprint
    memory_bytes: int  # that the device has for it
    bytes_per_token: int  # of weights and cache, read for a token behind the prompt
    prompt_tokens: int
    prefill: list[Term]
    decode: list[Term]  # of one token behind the prompt

    @property
    def total_bytes(self) -> int:
        """What must fit: the model, its cache, and the process around them."""
        return self.memory.total_bytes + PROCESS_BYTES

    @property
    def fits(self) -> bool:
        """Does it fit?"""
        return self.total_bytes <= self.memory_bytes

    @property
    def first_token_s(self) -> float:
        """Seconds to the first token, of a prompt that is not cached."""
        return sum(term.seconds for term in self.prefill)

    @property
    def prefill_tok_s(self) -> float:
        """Tokens of the prompt per second."""
        return self.prompt_tokens / self.first_token_s

    @property
    def decode_tok_s(self) -> float:
        """Tokens per second behind the prompt."""
        return 1 / sum(term.seconds for term in self.decode)


def predict(spec: DecoderSpec, formats: Formats, device: Device, prompt: int, kv_dtype: str | None = None) -> Plan:
    """A plan for sessions of the whole context, and prompts of ``prompt`` tokens; kv_dtype None: the default."""
    memory = footprint(spec, formats, device.threads, kv_dtype)
    layers, head = _linears(spec, formats)
    rates, kv_read = device.rates, cache_bytes(spec, memory.kv_dtype, prompt) or 0
    return Plan(
        memory=memory,
        memory_bytes=device.memory_bytes,
        bytes_per_token=sum(work.bytes for work in (*layers.values(), *head.values())) + kv_read,
        prompt_tokens=prompt,
        prefill=[
            *_computed(layers, rates, prompt),
            _attention(sum(_rows_of_prompt(b.mixer, prompt) * _width(b.mixer) for b in spec.layers), rates),
            *_read("output head", head, rates),
            _overhead(spec, rates, -(-prompt // CHUNK)),
        ],
        decode=[
            *_read("layers", layers, rates),
            *_read("output head", head, rates),
            _token_attention(sum(_rows(b.mixer, prompt) * _width(b.mixer) for b in spec.layers), kv_read, rates),
            _overhead(spec, rates, 1),
        ],
    )


@dataclass
class _Work:
    """Of the linears of one format: bytes of weights, and multiply-adds for a token of a prompt."""

    bytes: int = 0
    macs: int = 0


def _linears(spec: DecoderSpec, formats: Formats) -> tuple[Mapping[str, _Work], Mapping[str, _Work]]:
    """Format → work of the layers, and of the output head."""
    layers: dict[str, _Work] = defaultdict(_Work)
    head: dict[str, _Work] = defaultdict(_Work)
    sizes, last = weight_bytes(spec, formats), f"layers.{len(spec.layout) - 1}."
    for name, shape in tensor_shapes(spec).items():
        if len(shape) == 2 and (name != "embed" or spec.tied):
            work = (head if name in ("embed", "head") else layers)[formats[name][0]]
            work.bytes += sizes[name]
            work.macs += 0 if name.startswith((last + "attn.o", last + "mlp.")) else prod(shape)
    return layers, head


def _computed(work: Mapping[str, _Work], rates: Rates, tokens: int) -> list[Term]:
    return [
        Term(
            f"{tokens} x {w.macs / 1e6:.4g} M multiply-adds ({form}) / {rates.macs_per_s[form] / 1e9:.3g} G/s",
            tokens * w.macs / rates.macs_per_s[form],
        )
        for form, w in work.items()
    ]


def _read(what: str, work: Mapping[str, _Work], rates: Rates) -> list[Term]:
    read = rates.read_bytes_per_s
    return [
        Term(
            f"{what}: {w.bytes / 1e6:.4g} MB ({form}) / ({read / 1e9:.3g} GB/s x {rates.efficiency[form]:.2f})",
            w.bytes / (read * rates.efficiency[form]),
        )
        for form, w in work.items()
    ]


def _attention(macs: int, rates: Rates) -> Term:
    return _attending(macs, rates.attention_macs_per_s)


def _token_attention(macs: int, kv_read: int, rates: Rates) -> Term:
    computing, read = _attending(macs, rates.token_attention_macs_per_s), rates.read_bytes_per_s
    reading = Term(f"attention: {kv_read / 1e6:.4g} MB of keys and values / {read / 1e9:.3g} GB/s", kv_read / read)
    return max(computing, reading, key=lambda term: term.seconds)


def _attending(macs: int, rate: float) -> Term:
    return Term(f"attention: {macs / 1e6:.4g} M multiply-adds / {rate / 1e9:.3g} G/s", macs / rate)


def _overhead(spec: DecoderSpec, rates: Rates, chunks: int) -> Term:
    count = len(spec.layout)
    return Term(f"{chunks} x {count} layers x {rates.layer_s * 1e6:.3g} µs", chunks * count * rates.layer_s)


def _width(a: Attention) -> int:
    """Multiply-adds of a token with one cached row: scores and values."""
    return 2 * a.n_heads * a.head_dim


def _rows(a: Attention, depth: int) -> int:
    """Cached rows that the token behind ``depth`` others sees, itself included."""
    return min(depth + 1, a.window) if a.window else depth + 1


def _rows_of_prompt(a: Attention, tokens: int) -> int:
    """The same for all tokens of a prompt together."""
    seen = min(tokens, a.window) if a.window else tokens
    return seen * (seen + 1) // 2 + (tokens - seen) * seen
