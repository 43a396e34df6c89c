"""The loop: prompt in, then one token at a time until the text ends or the limit is reached."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

from edgeslm.engines.protocol import Engine, Session
from edgeslm.errors import ContextLengthError
from edgeslm.generation._sampling import Sampler
from edgeslm.generation.options import GenerationOptions
from edgeslm.tokenizer import StreamDecoder

FinishReason = Literal["length", "eos"]
DEFAULT_NEW_TOKENS = 256


class Step(NamedTuple):
    """One sampled token, the end-of-text token included, and the text that became certain with it."""

    token: int
    text: str


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds; time that the caller takes between two steps is not counted."""

    prompt_tokens: int
    prompt_s: float  # the forward pass over the prompt
    first_token_s: float  # from the start to the first token, new session included
    new_tokens: int  # of the completion, without the end-of-text token
    decode_s: float  # all steps after the first token
    decode_tok_s: float | None  # steps per second after the first token; None where there was none


class Generation:
    """One completion in the making: iterate over it, once, to run it; closing the iterator frees the session.

    Attributes:
        tokens: the completion so far, without the prompt and without the end-of-text token.
        finish_reason: None until it is finished; then "eos" or "length".
    """

    def __init__(
        self, engine: Engine, prompt: Sequence[int], options: GenerationOptions, decoder: StreamDecoder | None = None
    ) -> None:
        """
        Args:
            engine: gives the logits.
            prompt: token ids, at least one.
            options: limits, sampling and end-of-text ids.
            decoder: turns tokens into text; without one every step's text is empty.

        Raises:
            ContextLengthError: prompt and new tokens do not fit the context.
        """
        self._engine, self._prompt, self._options, self._decoder = engine, prompt, options, decoder
        self._limit = new_token_limit(engine.spec.context_length, len(prompt), options.max_new_tokens)
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._prompt_s = self._first_token_s = self._decode_s = 0.0
        self._decode_steps = 0

    def __iter__(self) -> Generator[Step, None, None]:
        start = perf_counter()
        session = self._engine.new_session()
        try:
            yield from self._steps(session, start)
        finally:
            session.close()

    @property
    def timings(self) -> Timings:
        """Of the steps taken so far."""
        return Timings(
            prompt_tokens=len(self._prompt),
            prompt_s=self._prompt_s,
            first_token_s=self._first_token_s,
            new_tokens=len(self.tokens),
            decode_s=self._decode_s,
            decode_tok_s=self._decode_steps / self._decode_s if self._decode_steps else None,
        )

    def _steps(self, session: Session, start: float) -> Generator[Step, None, None]:
        o = self._options
        seed = secrets.randbits(64) if o.seed is None else o.seed
        sampler = Sampler(self._engine.spec.vocab_size, o.temperature, min(o.top_k, 2**31), o.top_p, seed)
        before = perf_counter()
        logits = session.forward(self._prompt)
        self._prompt_s = perf_counter() - before
        token = sampler.sample(logits[-1])
        self._first_token_s = perf_counter() - start
        while True:
            yield Step(token, self._take(token))
            if self.finish_reason is not None:
                return
            before = perf_counter()
            token = sampler.sample(session.forward([token])[-1])
            self._decode_s += perf_counter() - before
            self._decode_steps += 1

    def _take(self, token: int) -> str:
        """Add a token to the completion, or end it; returns the text that became certain."""
        text = ""
        if token in self._options.eos_ids:
            self.finish_reason = "eos"
        else:
            self.tokens.append(token)
            text = self._decoder.push(token) if self._decoder else ""
            if len(self.tokens) == self._limit:
                self.finish_reason = "length"
        if self.finish_reason is not None and self._decoder:
            text += self._decoder.finish()
        return text


def new_token_limit(context_length: int, prompt_tokens: int, max_new_tokens: int | None) -> int:
    """How many tokens to generate at most.

    Raises:
        ContextLengthError: the prompt leaves no room, or less than was asked for.
    """
    room, wanted = context_length - prompt_tokens, max_new_tokens or 1
    if room < wanted:
        advice = f"ask for at most {room}" if room > 0 else "shorten the prompt, or convert with a longer --context"
        raise ContextLengthError(
            f"{prompt_tokens} prompt tokens and {wanted} new do not fit the context of {context_length}: {advice}"
        )
    return max_new_tokens or min(DEFAULT_NEW_TOKENS, room)
