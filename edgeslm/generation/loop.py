"""The loop: prompt in, then one token at a time until the text ends or the limit is reached."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator, Iterator, Sequence
from time import perf_counter
from types import TracebackType

from edgeslm.engines.protocol import Engine, Logits
from edgeslm.engines.session import Session
from edgeslm.errors import ArgumentError, CancelledError, ContextLengthError
from edgeslm.generation.options import GenerationOptions
from edgeslm.generation.result import ChosenLogprob, FinishReason, GenerationResult, Memory, Timings, TokenLogprob
from edgeslm.generation.sampler import Sampler
from edgeslm.generation.stop import StopStrings
from edgeslm.memory import cache_bytes, process_memory
from edgeslm.text_stream import StreamDecoder

DEFAULT_NEW_TOKENS = 256


class Generation:
    """One completion in the making: iterate over it, once, for the text as it becomes certain, piece by piece.

    The pieces joined are the text; none is empty or cuts a character, and none holds part of a stop string. Use it as a
    context manager, or close it: that ends the completion early and frees the session. An exception that ends the
    iteration, KeyboardInterrupt too, frees it as well; :meth:`result` then has the text so far.

    Attributes:
        tokens: the completion so far, without the prompt and without a token that ended it.
        finish_reason: None until it is finished.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        options: GenerationOptions,
        decoder: StreamDecoder | None = None,
        session: Session | None = None,
    ) -> None:
        """
        Args:
            engine: gives the logits.
            prompt: token ids, at least one.
            options: limits, sampling and what ends the text.
            decoder: turns tokens into text; without one there is none.
            session: one that holds a part of the prompt, from its start and not all; it is left open, with prompt and
                completion in it but for the last token. By default one of its own.

        Raises:
            ArgumentError: an option names a token that the vocabulary has not, or a stop string where there is no text.
            ContextLengthError: prompt and new tokens do not fit the context.
        """
        options.check_vocabulary(engine.spec.vocab_size)
        if options.stop and decoder is None:
            raise ArgumentError("stop: without a tokenizer there is no text to find it in; use stop_token_ids")
        self._engine, self._prompt, self._options, self._decoder = engine, prompt, options, decoder
        self._limit = new_token_limit(engine.spec.context_length, len(prompt), options.max_new_tokens)
        self._stops = StopStrings(options.stop)
        self._text: list[str] = []
        self._logprobs: list[ChosenLogprob] = []
        self._cancelled = False
        self._session: Session | None = None  # the one in use
        self._lock = threading.RLock()  # of both; a signal handler may cancel while this thread holds it
        self._pieces = self._run(session)
        self._cached_tokens, self._decode_steps = 0, 0
        self._start = self._prompt_s = self._decode_s = 0.0
        self._first_token_s: float | None = None
        self._result: GenerationResult | None = None
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def cancel(self) -> None:
        """End the completion soon, from any thread or signal handler: the iteration gives what text is left, and stops.

        A pass under way in the engine is stopped, as :meth:`Session.cancel` says.
        """
        with self._lock:
            self._cancelled = True
            if self._session is not None:
                self._session.cancel()

    def close(self) -> None:
        """End the completion now, from the thread that iterates. Closing one that is finished does nothing."""
        self._pieces.close()
        if self.finish_reason is None:
            self._end("cancelled")

    def run(self) -> GenerationResult:
        """Iterate to the end."""
        with self:
            for _ in self:
                pass
        return self.result()

    def result(self) -> GenerationResult:
        """The completion; one that is not finished is closed, and has what came until then."""
        self.close()
        assert self.finish_reason is not None
        if self._result is None:
            self._result = GenerationResult(
                text="".join(self._text),
                tokens=tuple(self.tokens),
                finish_reason=self.finish_reason,
                timings=self._timings(),
                memory=self._memory(),
                logprobs=None if self._options.logprobs is None else tuple(self._logprobs),
            )
        return self._result

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, given: Session | None) -> Generator[str, None, None]:
        self._start = perf_counter()
        session = self._engine.new_session() if given is None else given
        try:
            self._use(session)
            self._cached_tokens = session.length
            sampler, ids = self._sampler(), self._prompt[session.length :]
            while self.finish_reason is None:
                if piece := self._step(session, sampler, ids):
                    yield piece
                ids = self.tokens[-1:]
        finally:
            self._use(None)
            if given is None:
                session.close()
            elif self._cancelled:
                session.uncancel()  # what came too late to stop a pass of this completion is not for the next one

    def _use(self, session: Session | None) -> None:
        """Let ``cancel`` reach this session."""
        with self._lock:
            self._session = session

    def _sampler(self) -> Sampler:
        o = self._options
        return Sampler(
            self._engine.spec.vocab_size,
            temperature=o.temperature,
            top_k=min(o.top_k, 2**31),
            top_p=o.top_p,
            min_p=o.min_p,
            repetition_penalty=o.repetition_penalty,
            presence_penalty=o.presence_penalty,
            frequency_penalty=o.frequency_penalty,
            logit_bias=dict(o.logit_bias),
            suppress_tokens=o.suppress_tokens,
            prompt=self._prompt,
            seed=secrets.randbits(64) if o.seed is None else o.seed,
        )

    def _step(self, session: Session, sampler: Sampler, ids: Sequence[int]) -> str:
        """One more token, or the end; returns the text that became certain."""
        before = perf_counter()
        logits = self._logits(session, ids)
        if logits is None:
            return self._end("cancelled")
        forwarded = perf_counter()
        token = sampler.sample(logits[-1])
        text = self._take(token)
        if self._options.logprobs is not None and len(self._logprobs) < len(self.tokens):
            chosen, top = sampler.logprobs(logits[-1], token, self._options.logprobs)
            self._logprobs.append(ChosenLogprob(token, chosen, tuple(TokenLogprob(*pair) for pair in top)))
        self._count_time(before, forwarded)
        return text

    def _logits(self, session: Session, ids: Sequence[int]) -> Logits | None:
        """None where the completion has been cancelled, before or meanwhile."""
        try:
            logits = None if self._cancelled else session.forward(ids)
        except CancelledError:  # by this completion, or by the owner of its session
            return None
        return None if self._cancelled else logits

    def _take(self, token: int) -> str:
        """Add a token to the completion, or end it; returns the text that became certain."""
        if token in self._options.eos_ids:
            return self._end("eos")
        if token in self._options.stop_token_ids:
            return self._end("stop")
        self.tokens.append(token)
        text = self._give(self._stops.push(self._decoder.push(token)) if self._decoder else "")
        if self._stops.found:
            self.finish_reason = "stop"
        elif len(self.tokens) == self._limit:
            text += self._end("length")
        return text

    def _end(self, reason: FinishReason) -> str:
        """Finish the completion; returns the text that was withheld."""
        text = self._stops.push(self._decoder.finish()) if self._decoder else ""
        self.finish_reason = "stop" if self._stops.found else reason
        return self._give(text + self._stops.finish())

    def _give(self, text: str) -> str:
        self._text.append(text)
        return text

    def _count_time(self, before: float, forwarded: float) -> None:
        now = perf_counter()
        if self._first_token_s is None:
            self._prompt_s, self._first_token_s = forwarded - before, now - self._start
        else:
            self._decode_s += now - before
            self._decode_steps += 1

    def _memory(self) -> Memory:
        held = len(self._prompt) + len(self.tokens)
        return Memory(cache_bytes(self._engine.spec, self._engine.kv_type, held), process_memory()[0])

    def _timings(self) -> Timings:
        prompt_s, forwarded = self._prompt_s, len(self._prompt) - self._cached_tokens
        return Timings(
            prompt_tokens=len(self._prompt),
            cached_tokens=self._cached_tokens,
            prompt_s=prompt_s,
            prompt_tok_s=forwarded / prompt_s if prompt_s else None,
            first_token_s=self._first_token_s,
            new_tokens=len(self.tokens),
            decode_s=self._decode_s,
            decode_tok_s=self._decode_steps / self._decode_s if self._decode_steps else None,
        )


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
