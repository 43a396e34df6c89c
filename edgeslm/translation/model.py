"""A bundle that translates: its card, and what asks it, made when it is first needed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.engines import registry
from edgeslm.engines.protocol import Engine
from edgeslm.errors import BundleError, EngineError
from edgeslm.generation.config import GENERATION_CONFIG, eos_ids, read_config
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer
from edgeslm.translation.asking import CLOSED, Asker
from edgeslm.translation.card import NAME, Card, Pair, read_card
from edgeslm.translation.names import Names
from edgeslm.translation.phrases import Answer, Ask, Outcome, translate_sentences
from edgeslm.translation.protect import Protector
from edgeslm.translation.search import Searcher


class Settings(NamedTuple):
    """How models are opened: as :meth:`~edgeslm.translation.translator.Translator.load` takes it."""

    engine: str
    threads: int
    batch: int


class Opened(NamedTuple):
    """What an open bundle is asked with."""

    asker: Asker
    protector: Protector
    names: Names
    fingerprint: str


class Model:
    """One bundle. Its files are checked, and tokenizer and engine opened, when something of them is first asked for.

    Attributes:
        card: what it translates.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Read the card.

        Raises:
            BundleError: the bundle is no translator.
        """
        self.card = read_card(bundle)
        if not bundle.has(TOKENIZER_JSON):
            raise BundleError(f"{bundle.folder}: no {TOKENIZER_JSON}; a translator needs one")
        self._bundle, self._settings = bundle, settings
        self._opened: Opened | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def protector(self) -> Protector:
        """What finds the parts of a text that the model must not touch.

        Raises:
            As :meth:`open`.
        """
        return self.open().protector

    @property
    def fingerprint(self) -> str:
        """Of the model and its card; what it is for two translations to be the same.

        Raises:
            As :meth:`open`.
        """
        return self.open().fingerprint

    def translate(self, texts: Sequence[str], language: str, ask: Ask) -> list[Outcome]:
        """Sentences of a language, with everything kept that must be; ``ask`` gives the answers to their pieces.

        Raises:
            As :meth:`ask`.
        """
        opened = self.open()
        return translate_sentences(texts, opened.protector, opened.names, self.card, language, ask)

    def ask(self, texts: Sequence[str], pair: Pair, beams: int) -> list[list[Answer]]:
        """Answers to each text, best first; one to a phrase of the card, an empty one to a text that is too long.

        Raises:
            EngineError: the engine failed.
            Further as :meth:`open`.
        """
        known = [pair.phrasebook.get(text) for text in texts]
        left = [text for text, found in zip(texts, known, strict=True) if found is None]
        asked = iter(self.open().asker.ask(left, pair, beams))
        return [next(asked) if found is None else [Answer(found)] for found in known]

    def score(self, answered: Sequence[tuple[str, str]], pair: Pair) -> list[float]:
        """The log probability per token of answers to texts, (text, answer) each; -inf of those that are too long.

        Raises:
            As :meth:`ask`.
        """
        return self.open().asker.score(answered, pair)

    def open(self) -> Opened:
        """Open tokenizer and engine, unless they are.

        Raises:
            BundleError: the bundle is damaged.
            EngineError, MissingExtraError: the engine cannot be opened here, or this is closed.
        """
        with self._lock:
            if self._closed:
                raise EngineError(CLOSED)
            if self._opened is None:
                self._opened = _open(self._bundle, self.card, self._settings)
            return self._opened

    def close(self) -> None:
        """Free the engine, once no search is under way."""
        with self._lock:
            self._closed = True
            if self._opened:
                self._opened.asker.close()


class _Aside(threading.Thread):
    """Work that leaves the interpreter free, begun at once."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="edgeslm-check", daemon=True)
        self._work = work
        self._error: BaseException | None = None
        with suppress(RuntimeError):  # the system gives no thread: wait() does the work
            self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Raises what it raised."""
        if self.ident is None:
            self.run()
        else:
            self.join()
        if self._error:
            raise self._error


def _open(bundle: Bundle, card: Card, settings: Settings) -> Opened:
    checked = _Aside(bundle.begin_check("fast"))
    try:
        tokenizer, ends = _open_tokenizer(bundle)
    finally:
        checked.wait()  # where both fail, what it raises tells more
    engine, more = _engines(bundle, settings)
    searcher = Searcher([engine], ends, settings.batch, more)
    asker = Asker(tokenizer, searcher, bundle.spec.context_length)
    names = Names(lambda text: tokenizer.encode(text, special_tokens=False), card.capitals)
    fingerprint = hashlib.sha256(bundle.read(NAME) + engine.fingerprint.encode()).hexdigest()
    return Opened(asker, Protector(card.letters, tokenizer.special_tokens), names, fingerprint)


def _open_tokenizer(bundle: Bundle) -> tuple[Tokenizer, frozenset[int]]:
    """It, and the tokens that end answers."""
    config = bundle.read(TOKENIZER_CONFIG) if bundle.has(TOKENIZER_CONFIG) else b"{}"
    trusted = bundle.folder == embedded.BUNDLE
    tokenizer = Tokenizer(bundle.read(TOKENIZER_JSON), config, bundle.spec.vocab_size, trusted=trusted)
    generation = bundle.read(GENERATION_CONFIG) if bundle.has(GENERATION_CONFIG) else b"{}"
    ends = eos_ids(read_config(generation), tokenizer.eos_id)
    if not ends:
        raise BundleError(f"{bundle.folder}: {GENERATION_CONFIG} names no eos_token_id, so no translation would end")
    return tokenizer, ends


def _engines(bundle: Bundle, settings: Settings) -> tuple[Engine, list[Callable[[], Engine]]]:
    """An engine, and what opens more; of native ones a thread each: models of megabytes are too small to share out."""
    name, threads = settings.engine, settings.threads
    native = "onnx" in bundle.manifest.targets and registry.has_native_kernels()
    if name != "native" and not (name == "auto" and native):
        return registry.open_engine(bundle, name, threads), []
    first = registry.open_engine(bundle, "native", 1)
    from edgeslm.engines.native import NativeEngine

    return first, [lambda: NativeEngine.open(bundle, 1)] * (threads - 1)
