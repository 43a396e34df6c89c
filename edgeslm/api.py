"""The user surface: :func:`load` a bundle, then ``generate``, ``stream`` or ask for ``logits``."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType

from edgeslm.bundle import Bundle, Check
from edgeslm.engines.checks import check_ids
from edgeslm.engines.protocol import Engine, Logits, TokenIds
from edgeslm.engines.registry import open_engine
from edgeslm.errors import ArgumentError, EngineError
from edgeslm.generation.loop import FinishReason, Generation, Timings
from edgeslm.generation.options import GENERATION_CONFIG, GenerationDefaults, GenerationOptions, read_defaults
from edgeslm.spec import DecoderSpec
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer

Prompt = str | TokenIds


@dataclass(frozen=True)
class GenerationResult:
    """A completion: without the prompt, and without the end-of-text token."""

    text: str  # "" where the bundle has no tokenizer
    tokens: tuple[int, ...]
    finish_reason: FinishReason  # "eos": the model ended the text; "length": the limit did
    timings: Timings


@dataclass(frozen=True)
class EngineInfo:
    """What computes."""

    name: str
    isa: str  # instruction set, or "" where the engine does not tell
    threads: int


def load(
    path: str | os.PathLike[str], engine: str = "auto", threads: int | None = None, check: Check = "fast"
) -> Model:
    """Open a bundle for generation.

    Args:
        path: the bundle's folder.
        engine: "native", "onnxruntime", "reference", or "auto" for the best one here.
        threads: to compute with; by default the CPUs that this process may use.
        check: "fast" compares sizes, and the hashes of files up to 64 MB; "full" hashes everything.

    Raises:
        BundleError: the bundle is damaged or not one.
        EngineError, MissingExtraError: the engine cannot be opened here.
        ArgumentError: an argument is out of range.
    """
    if check not in ("fast", "full"):
        raise ArgumentError(f"check: expected 'fast' or 'full', found {check!r}")
    bundle = Bundle.open(path, check)
    tokenizer = None
    if bundle.has(TOKENIZER_JSON):
        config = bundle.read(TOKENIZER_CONFIG) if bundle.has(TOKENIZER_CONFIG) else b"{}"
        tokenizer = Tokenizer(bundle.read(TOKENIZER_JSON), config, bundle.spec.vocab_size)
    config = bundle.read(GENERATION_CONFIG) if bundle.has(GENERATION_CONFIG) else b"{}"
    defaults = read_defaults(config, tokenizer.eos_id if tokenizer else None)
    return Model(open_engine(bundle, engine, threads), tokenizer, defaults)


class Model:
    """A loaded model. Use it as a context manager, or call :meth:`close`; threads may share it.

    Attributes:
        tokenizer: text to ids and back, or None where the bundle has none.
        defaults: what generation_config.json suggests.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer | None = None, defaults: GenerationDefaults | None = None
    ) -> None:
        self._engine: Engine | None = engine
        self._spec = engine.spec
        self.tokenizer = tokenizer
        self.defaults = defaults or GenerationDefaults()

    @property
    def spec(self) -> DecoderSpec:
        """The decoder: vocabulary, context length, layers."""
        return self._spec

    @property
    def engine(self) -> EngineInfo:
        """The engine in use."""
        engine = self._open_engine()
        return EngineInfo(engine.name, engine.isa, engine.threads)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> GenerationResult:
        """Complete a prompt.

        Args:
            prompt: raw text (the tokenizer adds what belongs at the start of a text), or token ids taken as they are.
            max_new_tokens: at most so many; by default 256, or what the context holds. ``max_tokens`` is the same.
            temperature: 0 takes the most likely token each time; above 0 samples. An option left None follows the
                model's generation_config.json; without one, generation is greedy.
            top_k: sample among the k most likely tokens; 0: all.
            top_p: sample among the most likely tokens that together hold this probability; 1: all.
            seed: the same seed gives the same text; None: another one each time.

        Raises:
            ArgumentError: an option or the prompt is out of range, or the prompt is text and there is no tokenizer.
            ContextLengthError: prompt and new tokens do not fit the context; raised before any work.
            EngineError: the engine failed, or the model is closed.
        """
        options = self.defaults.options(
            max_new_tokens=max_new_tokens,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        generation = self._generation(prompt, options)
        text = "".join([step.text for step in generation])
        assert generation.finish_reason is not None  # the loop ends no other way
        return GenerationResult(text, tuple(generation.tokens), generation.finish_reason, generation.timings)

    def stream(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Generator[str, None, None]:
        """Complete a prompt piece by piece; arguments and errors as for :meth:`generate`, errors in them raised here.

        The pieces joined are the text; none cuts a character. Closing the iterator frees the session.
        """
        if self.tokenizer is None:
            raise ArgumentError("stream: this bundle has no tokenizer, so there is no text to give: use generate(ids)")
        options = self.defaults.options(
            max_new_tokens=max_new_tokens,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        generation = self._generation(prompt, options)
        return _texts(generation)

    def logits(self, ids: TokenIds) -> Logits:
        """Logits of every position, teacher-forced: (len(ids), vocab) float32; row i foretells token i + 1.

        Raises:
            ArgumentError: no ids, or one outside the vocabulary.
            ContextLengthError: more ids than the context holds.
        """
        session = self._open_engine().new_session()
        try:
            return session.forward(ids, rows="all")
        finally:
            session.close()

    def close(self) -> None:
        """Free the model. Closing again does nothing; any other call raises EngineError."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Model:
        self._open_engine()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise EngineError("this model is closed; load it again with edgeslm.load()")
        return self._engine

    def _generation(self, prompt: Prompt, options: GenerationOptions) -> Generation:
        engine = self._open_engine()
        ids = self._encode(prompt) if isinstance(prompt, str) else check_ids(prompt, self._spec, 0).tolist()
        decoder = self.tokenizer.stream(ids) if self.tokenizer else None
        return Generation(engine, ids, options, decoder)

    def _encode(self, prompt: str) -> list[int]:
        if self.tokenizer is None:
            raise ArgumentError("prompt: this bundle has no tokenizer, so it takes token ids, not text")
        ids = self.tokenizer.encode(prompt)
        if not ids:
            raise ArgumentError("prompt: it has no tokens; expected some text")
        return ids


def _texts(generation: Generation) -> Generator[str, None, None]:
    """The pieces of text; closing this closes the generation, and with it the session."""
    with closing(iter(generation)) as steps:
        for step in steps:
            if step.text:
                yield step.text
