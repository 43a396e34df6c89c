"""The user surface: :func:`load` a bundle, then ``generate``, ``stream`` or ask for ``logits``."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Unpack
from weakref import WeakSet

from edgeslm.bundle import Bundle, Check
from edgeslm.chat import Chat
from edgeslm.engines.protocol import Engine, Logits, TokenIds
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session import Session
from edgeslm.errors import ArgumentError, EngineError
from edgeslm.generation.config import GENERATION_CONFIG
from edgeslm.generation.loop import Generation
from edgeslm.generation.options import (
    GenerationArguments,
    GenerationDefaults,
    GenerationOptions,
    read_defaults,
)
from edgeslm.generation.reply import OnEnd, Reply
from edgeslm.generation.result import GenerationResult
from edgeslm.memory import return_free_memory
from edgeslm.prefix import Prefix
from edgeslm.prompts import ChatArguments, Prompt, Prompts
from edgeslm.spec import DecoderSpec
from edgeslm.templates.chat_template import Message
from edgeslm.templates.files import ChatTemplates
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer


@dataclass(frozen=True)
class EngineInfo:
    """What computes."""

    name: str
    isa: str  # instruction set, or "" where the engine does not tell
    threads: int
    kv_dtype: str  # how keys and values are kept


def load(
    path: str | os.PathLike[str],
    engine: str = "auto",
    threads: int | None = None,
    check: Check = "fast",
    force: bool = False,
    kv_dtype: str | None = None,
) -> Model:
    """Open a bundle for generation.

    Args:
        path: the bundle's folder.
        engine: "native", "onnxruntime", "reference", or "auto" for the best one here.
        threads: to compute with; by default one for each core that can work for this process.
        check: "fast" compares sizes, and the hashes of files up to 64 MB; "full" hashes everything.
        force: load it even if it will not fit the memory that this process can get.
        kv_dtype: how the native engine keeps keys and values: "f16" (by default), "f32", or "int8" with a scale for
            each row of each head: half of f16's memory. Other engines have one way each.

    Raises:
        BundleError: the bundle is damaged or not one.
        MemoryLimitError: it will not fit, with a cache of its whole context.
        EngineError, MissingExtraError: the engine cannot be opened here.
        ArgumentError: an argument is out of range.
    """
    if check not in ("fast", "full"):
        raise ArgumentError(f"check: expected 'fast' or 'full', found {check!r}")
    bundle = Bundle.open(path, check)
    # First, so that its pages are mapped while the tokenizer is built.
    opened = open_engine(bundle, engine, threads, force, kv_dtype)
    try:
        return Model(opened, *_texts(bundle))
    except BaseException:
        opened.close()
        raise


def _texts(bundle: Bundle) -> tuple[Tokenizer | None, GenerationDefaults, ChatTemplates | None]:
    """What a model needs besides its engine."""
    tokenizer = templates = None
    if bundle.has(TOKENIZER_JSON):
        config = bundle.read(TOKENIZER_CONFIG) if bundle.has(TOKENIZER_CONFIG) else b"{}"
        tokenizer = Tokenizer(bundle.read(TOKENIZER_JSON), config, bundle.spec.vocab_size)
        templates = ChatTemplates(lambda name: bundle.read(name) if bundle.has(name) else None)
        return_free_memory()
    config = bundle.read(GENERATION_CONFIG) if bundle.has(GENERATION_CONFIG) else b"{}"
    defaults = read_defaults(config, tokenizer.eos_id if tokenizer else None, bundle.spec.vocab_size)
    return tokenizer, defaults, templates


class Model:
    """A loaded model. Use it as a context manager, or call :meth:`close`; threads may share it.

    Attributes:
        tokenizer: text to ids and back, or None where the bundle has none.
        prompts: text and messages to ids.
        defaults: what generation_config.json suggests.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer | None = None,
        defaults: GenerationDefaults | None = None,
        templates: ChatTemplates | None = None,
    ) -> None:
        self._engine: Engine | None = engine
        self._spec = engine.spec
        self.tokenizer = tokenizer
        self.prompts = Prompts(engine.spec, tokenizer, templates)
        self.defaults = defaults or GenerationDefaults()
        self._generations: WeakSet[Generation] = WeakSet()  # for cancel()
        self._lock = threading.RLock()  # of that set; a signal handler may cancel

    @property
    def spec(self) -> DecoderSpec:
        """The decoder: vocabulary, context length, layers."""
        return self._spec

    @property
    def engine(self) -> EngineInfo:
        """The engine in use."""
        engine = self._open_engine()
        return EngineInfo(engine.name, engine.isa, engine.threads, engine.kv_type)

    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        prefix: Prefix | None = None,
        **options: Unpack[GenerationArguments],
    ) -> GenerationResult:
        """Complete a prompt, or answer messages.

        Args:
            prompt: raw text (the tokenizer adds what belongs at the start of a text), or token ids taken as they are.
            messages: instead of a prompt, a conversation such as ``[{"role": "user", "content": "Hello"}]``, written
                as the model's chat template says; the completion is the model's next turn.
            tools, chat_template_kwargs: for the template, as :class:`ChatArguments` says.
            prefix: from :meth:`prefix`; what the prompt shares with it is not computed again.
            options: :class:`GenerationArguments` lists them. What is left out follows the model's
                generation_config.json; without one, generation is greedy.

        KeyboardInterrupt is passed on, and what has come is lost with it: :meth:`stream` keeps it.

        Raises:
            ArgumentError: an option or the prompt is out of range, or the prompt is text and there is no tokenizer, or
                the template refuses the messages.
            TemplateError: messages are given and the bundle has no chat template, or it fails.
            ContextLengthError: prompt and new tokens do not fit the context; raised before any work.
            EngineError: the engine failed, or the model is closed.
        """
        chat = ChatArguments(tools=tools, chat_template_kwargs=chat_template_kwargs)
        return self._generation(prompt, messages, chat, prefix, options).run()

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        prefix: Prefix | None = None,
        **options: Unpack[GenerationArguments],
    ) -> Generation:
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
        chat = ChatArguments(tools=tools, chat_template_kwargs=chat_template_kwargs)
        return self._generation(prompt, messages, chat, prefix, options)

    def chat(
        self,
        system: str | None = None,
        *,
        messages: Sequence[Message] = (),
        prefix: Prefix | None = None,
        **chat: Unpack[ChatArguments],
    ) -> Chat:
        """A conversation that keeps its messages and what it has computed.

        Args:
            system: the system message to begin with.
            messages: turns to go on from, behind the system message.
            prefix: from :meth:`prefix`; what the conversation begins with, computed already.
            chat: for the template, as :class:`ChatArguments` says.

        Raises:
            TemplateError: the bundle has no chat template, or it cannot be read.
            ArgumentError: these are no messages, or the bundle has no tokenizer.
        """
        self._open_engine()
        self.prompts.check_chat(chat)
        begin = [] if system is None else [{"role": "system", "content": system}]
        return Chat(self, [*begin, *messages], prefix, chat)

    def prefix(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        **chat: Unpack[ChatArguments],
    ) -> Prefix:
        """Run what many prompts begin with, once: a text, ids, or the messages that conversations begin with.

        Raises:
            As :meth:`generate`.
        """
        if messages is None:
            ids = self.prompts.ids(prompt, None, chat)
        elif prompt is None:
            ids = self.prompts.beginning(messages, chat)
        else:
            raise ArgumentError("expected either a prompt or messages=[…]")
        session = self.session()
        try:
            if ids:
                session.forward(ids)
        except BaseException:
            session.close()
            raise
        return Prefix(self._open_engine(), session)

    def load_prefix(self, path: str | os.PathLike[str]) -> Prefix:
        """A prefix that ``prefix.save(path)`` has written, with this bundle and engine.

        Raises:
            SessionFileError: it is something else, or damaged.
        """
        session = self.session()
        try:
            session.load(path)
        except BaseException:
            session.close()
            raise
        return Prefix(self._open_engine(), session)

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

    def session_from(self, prefix: Prefix, ids: Sequence[int]) -> Session:
        """A session that holds what ids share with a prefix; for :class:`Chat`."""
        if prefix.engine is not self._open_engine():
            raise ArgumentError("prefix: it was made by another model; make or load it with this one")
        return prefix.session_for(ids)

    def begin(self, ids: Sequence[int], arguments: GenerationArguments, session: Session, on_end: OnEnd) -> Reply:
        """A completion of ids on a session that holds a part of them; for :class:`Chat`."""
        options = self._options(arguments)
        decoder = self.tokenizer.stream(ids) if self.tokenizer else None
        reply = Reply(self._open_engine(), ids, options, decoder, session, on_end)
        self._register(reply)
        return reply

    def _generation(
        self,
        prompt: Prompt | None,
        messages: Sequence[Message] | None,
        chat: ChatArguments,
        prefix: Prefix | None,
        arguments: GenerationArguments,
    ) -> Generation:
        engine = self._open_engine()
        options = self._options(arguments)
        ids = self.prompts.ids(prompt, messages, chat)
        if prefix is not None:
            return self._from_prefix(prefix, ids, arguments)
        decoder = self.tokenizer.stream(ids) if self.tokenizer else None
        generation = Generation(engine, ids, options, decoder)
        self._register(generation)
        return generation

    def _from_prefix(self, prefix: Prefix, ids: list[int], arguments: GenerationArguments) -> Generation:
        session = self.session_from(prefix, ids)
        try:
            return self.begin(ids, arguments, session, lambda reply, error: session.close())
        except BaseException:
            session.close()
            raise

    def _register(self, generation: Generation) -> None:
        with self._lock:
            self._generations.add(generation)

    def _under_way(self) -> list[Generation]:
        with self._lock:
            return list(self._generations)

    def _options(self, arguments: GenerationArguments) -> GenerationOptions:
        """A stop string that is a special token has no text to be found in: it stops as a token."""
        options = self.defaults.options(**arguments)
        if self.tokenizer is None:
            return options
        found = {self.tokenizer.special_id(stop) for stop in options.stop}
        stops = {i for i in found if i is not None and i < self._spec.vocab_size}
        return dataclasses.replace(options, stop_token_ids=options.stop_token_ids | stops)
