"""What a completion is: its text and tokens, why it ended, how likely it was, what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The model's end-of-text token; a stop string or stop token; the limit; the caller, or an exception.
FinishReason = Literal["eos", "stop", "length", "cancelled"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token's natural log probability, of the model's own logits: before penalties, temperature and filters."""

    token: int
    logprob: float


@dataclass(frozen=True)
class ChosenLogprob(TokenLogprob):
    """That of a token of the completion, and of the most likely ones in its place, in falling order."""

    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds; time that the caller takes between two pieces is not counted."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, that the session held already
    prompt_s: float  # the forward pass over the rest of the prompt
    prompt_tok_s: float | None  # its tokens per second; None where it did not end
    first_token_s: float | None  # from the start to the first token, new session included; None where none came
    new_tokens: int  # of the completion, without a token that ended it
    decode_s: float  # all steps after the first token
    decode_tok_s: float | None  # steps per second after the first token; None where there was none


@dataclass(frozen=True)
class Memory:
    """Bytes; None where they are not known."""

    cache_bytes: int | None  # of keys and values of prompt and completion, without what an engine keeps in reserve
    peak_rss_bytes: int | None  # of the process, since it began: weights and all


@dataclass(frozen=True)
class GenerationResult:
    """A completion: without the prompt, the end-of-text or stop token, and in the text the stop string."""

    text: str  # "" where the bundle has no tokenizer
    tokens: tuple[int, ...]  # as generated: with those that spell a stop string
    finish_reason: FinishReason
    timings: Timings
    memory: Memory
    logprobs: tuple[ChosenLogprob, ...] | None  # of each of the tokens; None unless asked for
