""":class:`Translator`: texts, batches of them and documents, offline, from a bundle that has a translation card."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.engines import registry
from edgeslm.engines.protocol import Engine
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import ArgumentError, BundleError, MissingExtraError
from edgeslm.generation.options import GENERATION_CONFIG, read_defaults
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer
from edgeslm.translation.asking import Asker
from edgeslm.translation.card import NAME, Card, Pair, read_card
from edgeslm.translation.detect import detect
from edgeslm.translation.document import Sentence, cut
from edgeslm.translation.formats import Format
from edgeslm.translation.phrases import Answer, translate_sentences
from edgeslm.translation.protect import Protector
from edgeslm.translation.search import Searcher

Route = tuple[Pair, ...]
WINDOW = 1024  # sentences that are translated together
MAX_BEAMS = 16


@dataclass(frozen=True)
class Translation:
    """A translated text.

    Attributes:
        text: the translation.
        source: language of the original, given or detected.
        target: language of the translation.
        alternatives: other translations, likelier ones first, if they were asked for.
    """

    text: str
    source: str
    target: str
    alternatives: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Stream:
    """A translation in the making: iterate over it, once, for its pieces.

    Attributes:
        source, target: languages of the original, given or detected, and of the translation.
        total: pieces in all, those that were skipped among them.
    """

    pieces: Iterator[str]
    source: str
    target: str
    total: int

    def __iter__(self) -> Iterator[str]:
        return self.pieces


class Translator:
    """Translates offline. Use it as a context manager, or close it; threads may share it and take turns.

    Attributes:
        card: what the bundle translates.
        fingerprint: of the model and its card; what it is for two translations to be the same.
    """

    def __init__(self, card: Card, asker: Asker, protector: Protector, fingerprint: str) -> None:
        """See :meth:`load`."""
        self.card, self.fingerprint = card, fingerprint
        self._asker, self._protector = asker, protector

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int | None = None,
        batch: int = 32,
    ) -> Translator:
        """Open a bundle for translation; without a path the embedded English to German one.

        Args:
            path: the bundle's folder.
            engine: as :func:`edgeslm.load` takes it.
            threads: to compute with; by default the CPUs that this process may use. On the native engine each thread
                translates sentences of its own.
            batch: the number of sentences that run together on each.

        Raises:
            BundleError: the bundle is damaged, or no translator.
            EngineError, MissingExtraError: the engine cannot be opened here.
            ArgumentError: an argument is out of range.
        """
        if type(batch) is not int or not 1 <= batch <= 256:
            raise ArgumentError(f"batch: expected 1..256, found {batch!r}")
        bundle = Bundle.open(embedded.BUNDLE if path is None else path)
        card = read_card(bundle)
        if not bundle.has(TOKENIZER_JSON):
            raise BundleError(f"{bundle.folder}: no {TOKENIZER_JSON}; a translator needs one")
        config = bundle.read(TOKENIZER_CONFIG) if bundle.has(TOKENIZER_CONFIG) else b"{}"
        tokenizer = Tokenizer(bundle.read(TOKENIZER_JSON), config, bundle.spec.vocab_size)
        generation = bundle.read(GENERATION_CONFIG) if bundle.has(GENERATION_CONFIG) else b"{}"
        ends = read_defaults(generation, tokenizer.eos_id, bundle.spec.vocab_size).eos_ids
        if not ends:
            raise BundleError(
                f"{bundle.folder}: {GENERATION_CONFIG} names no eos_token_id, so no translation would end"
            )
        engines = _open(bundle, engine, resolve_threads(threads))
        asker = Asker(tokenizer, Searcher(engines, ends, batch), bundle.spec.context_length)
        fingerprint = hashlib.sha256(bundle.read(NAME) + engines[0].fingerprint.encode()).hexdigest()
        return cls(card, asker, Protector(card.letters, tokenizer.special_tokens), fingerprint)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of what the bundle translates directly."""
        return [(pair.source, pair.target) for pair in self.card.pairs]

    def translate(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        alternatives: int = 0,
    ) -> Translation:
        """Translate a text of any length; paragraphs, line breaks, markup, placeholders and numbers are kept.

        Args:
            text: the text.
            source: its language, such as "en"; if it is not given, detected, or, without the library for that, the only
                one that the bundle translates from.
            target: the language to translate to; may be left out where there is only one.
            format: "text", "markdown", "html" or "srt".
            beams: 1 takes the likeliest word after word; more compare as many ways to go on.
            alternatives: the number of other translations to return.

        Raises:
            ArgumentError: the bundle does not translate that, or an argument is out of range.
            MissingExtraError: the language has to be detected, and the library for it is not installed.
            EngineError: the engine failed, or the translator is closed.
        """
        return self.translate_batch([text], source, target, format=format, beams=beams, alternatives=alternatives)[0]

    def translate_batch(
        self,
        texts: Sequence[str],
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        alternatives: int = 0,
    ) -> list[Translation]:
        """Translate several texts together, each as :meth:`translate` does alone.

        Raises:
            As :meth:`translate`.
        """
        if isinstance(texts, str):
            raise ArgumentError("texts: expected a sequence of strings, found one string: use translate()")
        _check_number("beams", beams, 1, MAX_BEAMS)
        _check_number("alternatives", alternatives, 0, MAX_BEAMS - 1)
        routes = [self._route(text, source, target) for text in texts]
        results: dict[int, Translation] = {}
        for route in dict.fromkeys(routes):
            chosen = [i for i, found in enumerate(routes) if found == route]
            documents = [list(cut(texts[i], format, self._protector, route[0].source)) for i in chosen]
            sentences = [part for document in documents for part in document if isinstance(part, Sentence)]
            ranked = [iter(found) for found in self._translated(sentences, route, beams, alternatives)]
            for i, document in zip(chosen, documents, strict=True):
                best, *others = dict.fromkeys(_joined(document, translations) for translations in ranked)
                results[i] = Translation(best, route[0].source, route[-1].target, tuple(others))
        return [results[i] for i in range(len(texts))]

    def stream(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        skip: int = 0,
    ) -> Stream:
        """Translate piece by piece: the pieces, joined, are what :meth:`translate` gives.

        Args:
            skip: the number of pieces at the beginning to leave out, which somebody has already.

        Raises:
            As :meth:`translate`; errors in arguments are raised here.
        """
        route = self._route(text, source, target)
        _check_number("beams", beams, 1, MAX_BEAMS)
        parts = list(cut(text, format, self._protector, route[0].source))
        _check_number("skip", skip, 0, len(parts))
        pieces = self._pieces(iter(parts[skip:]), route, beams)
        return Stream(pieces, route[0].source, route[-1].target, len(parts))

    def _pieces(self, parts: Iterator[str | Sentence], route: Route, beams: int) -> Iterator[str]:
        size = 1  # sentences that are waited for: few at first, so that something comes soon
        while window := list(islice(parts, 2 * size)):
            found = iter(self._translated([part for part in window if isinstance(part, Sentence)], route, beams)[0])
            yield from (part if isinstance(part, str) else next(found) for part in window)
            size = min(4 * size, WINDOW)

    def language(self, text: str) -> str:
        """The language of a text, among those of the bundle.

        Raises:
            MissingExtraError, ArgumentError: as :meth:`translate`.
        """
        return detect(text, self.card.languages)

    def close(self) -> None:
        """Free the model. Closing again does nothing; translating then raises EngineError."""
        self._asker.close()

    def __enter__(self) -> Translator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _route(self, text: str, source: str | None, target: str | None) -> Route:
        if not isinstance(text, str):
            raise ArgumentError(f"text: expected a string, found {type(text).__name__}")
        if source is None:
            source = self._source(text, target)
        return tuple(self.card.route(source, self.card.target(source, target)))

    def _source(self, text: str, target: str | None) -> str:
        """The text's language; where the library that tells it is missing, the only one that it can be."""
        try:
            return self.language(text)
        except MissingExtraError:
            if (only := self.card.only_source(target)) is None:
                raise
            return only

    def _translated(
        self, sentences: Sequence[Sentence], route: Route, beams: int, alternatives: int = 0
    ) -> list[list[str]]:
        """All sentences translated; behind that, as often as was asked for, in their next best translations."""
        ask = [_Ranked(self._asker, pair, max(beams, alternatives + bool(alternatives))) for pair in route]
        ranked = []
        for rank in range(alternatives + 1):
            texts = [sentence.text for sentence in sentences]
            for asked in ask:
                asked.rank = rank
                texts = translate_sentences(texts, self._protector, self.card, asked)
            ranked.append([sentence.laid_out(text) for sentence, text in zip(sentences, texts, strict=True)])
        return ranked


def _open(bundle: Bundle, name: str, threads: int) -> list[Engine]:
    """An engine; of native ones a thread each, since a model of some megabytes is too small to be shared out."""
    native = "onnx" in bundle.manifest.targets and registry.has_native_kernels()
    if name != "native" and not (name == "auto" and native):
        return [registry.open_engine(bundle, name, threads)]
    first = registry.open_engine(bundle, "native", 1)
    from edgeslm.engines.native import NativeEngine

    return [first, *(NativeEngine.open(bundle, 1) for _ in range(threads - 1))]


@dataclass
class _Ranked:
    """Asks for each text once, and gives of its answers the one of a rank, or the last."""

    asker: Asker
    pair: Pair
    beams: int
    rank: int = 0
    known: dict[str, list[Answer]] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> list[Answer]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self.asker.ask(new, self.pair, self.beams), strict=True))
        return [answers[min(self.rank, len(answers) - 1)] for answers in map(self.known.__getitem__, texts)]


def _joined(document: Sequence[str | Sentence], translations: Iterator[str]) -> str:
    return "".join(part if isinstance(part, str) else next(translations) for part in document)


def _check_number(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ArgumentError(f"{name}: expected {low}..{high}, found {value!r}")
