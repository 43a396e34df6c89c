"""The user surface: :func:`load` a bundle, then ``generate``, ``stream`` or ask for ``logits``."""

from __future__ import annotations

import dataclasses
import os
import threading
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Unpack
from weakref import WeakSet

from edgeslm.bundle import Bundle, Check
from edgeslm.engines.checks import check_ids
from edgeslm.engines.protocol import Engine, Logits, TokenIds
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session import Session
from edgeslm.errors import ArgumentError, EngineError
from edgeslm.generation.loop import Generation
from edgeslm.generation.options import (
    GENERATION_CONFIG,
    GenerationArguments,
    GenerationDefaults,
    GenerationOptions,
    read_defaults,
)
from edgeslm.generation.result import GenerationResult
from edgeslm.spec import DecoderSpec
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer

Prompt = str | TokenIds


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
    defaults = read_defaults(config, tokenizer.eos_id if tokenizer else None, bundle.spec.vocab_size)
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
        self._generations: WeakSet[Generation] = WeakSet()  # for cancel()
        self._lock = threading.Lock()  # of that set

    @property
    def spec(self) -> DecoderSpec:
        """The decoder: vocabulary, context length, layers."""
        return self._spec

    @property
    def engine(self) -> EngineInfo:
        """The engine in use."""
        engine = self._open_engine()
        return EngineInfo(engine.name, engine.isa, engine.threads)

    def generate(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> GenerationResult:
        """Complete a prompt.

        Args:
            prompt: raw text (the tokenizer adds what belongs at the start of a text), or token ids taken as they are.
            options: :class:`GenerationArguments` lists them. What is left out follows the model's
                generation_config.json; without one, generation is greedy.

        KeyboardInterrupt is passed on, and what has come is lost with it: :meth:`stream` keeps it.

        Raises:
            ArgumentError: an option or the prompt is out of range, or the prompt is text and there is no tokenizer.
            ContextLengthError: prompt and new tokens do not fit the context; raised before any work.
            EngineError: the engine failed, or the model is closed.
        """
        return self._generation(prompt, options).run()

    def stream(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> Generation:
        """Complete a prompt piece by piece: iterate over what this returns.

        Arguments and errors are those of :meth:`generate`; errors in arguments are raised here. The pieces joined are
        the text; none cuts a character or holds part of a stop string. Closing it, also by leaving its ``with`` block,
        ends the completion; ``cancel()`` does so from another thread; ``result()`` has what came until then::

            with model.stream("Once upon a time") as pieces:
                for piece in pieces:
                    print(piece, end="", flush=True)
            print(pieces.result().finish_reason)
        """
        if self.tokenizer is None:
            raise ArgumentError("stream: this bundle has no tokenizer, so there is no text to give: use generate(ids)")
        return self._generation(prompt, options)

    def cancel(self) -> None:
        """End every completion of this model that is under way, from any thread: each returns what it has."""
        for generation in self._under_way():
            generation.cancel()

    def logits(self, ids: TokenIds) -> Logits:
        """Logits of every position, teacher-forced: (len(ids), vocab) float32; row i foretells token i + 1.

        Raises:
            ArgumentError: no ids, or one outside the vocabulary.
            ContextLengthError: more ids than the context holds.
        """
        with closing(self.session()) as session:
            return session.forward(ids, rows="all")

    def session(self) -> Session:
        """An empty session: ``forward`` ids and get logits, ``truncate``, ``fork``, ``save`` and ``load``, ``cancel``.

        Use it as a context manager, or close it; as many as memory allows, each with its own cache.
        """
        return self._open_engine().new_session()

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

    def _generation(self, prompt: Prompt, arguments: GenerationArguments) -> Generation:
        engine = self._open_engine()
        options = self._with_stop_tokens(self.defaults.options(**arguments))
        ids = self._encode(prompt) if isinstance(prompt, str) else check_ids(prompt, self._spec, 0).tolist()
        decoder = self.tokenizer.stream(ids) if self.tokenizer else None
        generation = Generation(engine, ids, options, decoder)
        with self._lock:
            self._generations.add(generation)
        return generation

    def _under_way(self) -> list[Generation]:
        with self._lock:
            return list(self._generations)

    def _with_stop_tokens(self, options: GenerationOptions) -> GenerationOptions:
        """A stop string that is a special token has no text to be found in: it stops as a token."""
        if self.tokenizer is None:
            return options
        found = {self.tokenizer.special_id(stop) for stop in options.stop}
        stops = {i for i in found if i is not None and i < self._spec.vocab_size}
        return dataclasses.replace(options, stop_token_ids=options.stop_token_ids | stops)

    def _encode(self, prompt: str) -> list[int]:
        if self.tokenizer is None:
            raise ArgumentError("prompt: this bundle has no tokenizer, so it takes token ids, not text")
        ids = self.tokenizer.encode(prompt)
        if not ids:
            raise ArgumentError("prompt: it has no tokens; expected some text")
        return ids
