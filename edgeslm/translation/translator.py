""":class:`Translator`: texts, batches of them and documents, offline, from bundles that have a translation card."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import ArgumentError, MissingExtraError
from edgeslm.translation.card import Pair
from edgeslm.translation.detect import detect
from edgeslm.translation.document import Sentence, cut
from edgeslm.translation.formats import Format, blocks
from edgeslm.translation.model import Model, Settings
from edgeslm.translation.rendering import Rendered, Search, Tally, render
from edgeslm.translation.routes import Route, Routes
from edgeslm.translation.weighing import Step, Voter

Folder = str | os.PathLike[str]
WINDOW = 1024  # sentences that are translated together
MAX_BEAMS = 16
UNSURE = 0.55  # confidence below which the embedded model is often wrong (docs/measured.md)


@dataclass(frozen=True)
class Translation:
    """A translated text.

    Attributes:
        text: the translation.
        source: language of the original, given or detected.
        target: language of the translation.
        alternatives: other translations, likelier ones first, if they were asked for.
        confidence: 0..1, of the sentence that the model was least sure of: the geometric mean of the probabilities of
            its tokens. 1 where nothing was translated.
        kept: sentences that were left as they are, since the model was less sure of them than was asked for.
    """

    text: str
    source: str
    target: str
    alternatives: tuple[str, ...] = ()
    confidence: float = 1.0
    kept: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Stream:
    """A translation in the making: iterate over it, once, for its pieces.

    Attributes:
        source, target: languages of the original, given or detected, and of the translation.
        total: pieces in all, those that were skipped among them.
        tally: confidence, and sentences kept, of the pieces that have come.
    """

    pieces: Iterator[str]
    source: str
    target: str
    total: int
    tally: Tally

    def __iter__(self) -> Iterator[str]:
        return self.pieces


class Translator:
    """Translates offline. Use it as a context manager, or close it; threads may share it and take turns.

    Attributes:
        routes: which languages its models lead from and to.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        """See :meth:`load`."""
        self._voters: list[Voter] = [(model, pair) for model in models for pair in model.card.pairs]
        self._models = {pair: model for model in reversed(models) for pair in model.card.pairs}
        self.routes = Routes(pair for model in models for pair in model.card.pairs)
        languages = set(self.routes.languages)
        cards = [model.card for model in models]
        # Of one card: words of others need not tell its languages apart.
        self._words = next((card.words for card in cards if card.words.keys() >= languages), {})

    @classmethod
    def load(
        cls,
        path: Folder | Sequence[Folder] | None = None,
        *,
        engine: str = "auto",
        threads: int | None = None,
        batch: int = 32,
    ) -> Translator:
        """Open bundles for translation; without a path the embedded one: English from and to German, French, Spanish.

        Of several, each is opened when it is first needed; where two have the same pair, the first translates it.

        Args:
            path: a bundle's folder, or several.
            engine: as :func:`edgeslm.load` takes it.
            threads: to compute with; by default the CPUs that this process may use. On the native engine each thread
                translates sentences of its own.
            batch: the number of sentences that run together on each.

        Raises:
            BundleError: a bundle is damaged, or no translator.
            EngineError, MissingExtraError: the engine cannot be opened here.
            ArgumentError: an argument is out of range.
        """
        if type(batch) is not int or not 1 <= batch <= 256:
            raise ArgumentError(f"batch: expected 1..256, found {batch!r}")
        path = embedded.BUNDLE if path is None else path
        paths = [path] if isinstance(path, str | os.PathLike) else path
        if not paths:
            raise ArgumentError("path: expected a bundle's folder, or several, found an empty sequence")
        settings = Settings(engine, resolve_threads(threads), batch)
        models = [Model(Bundle.open(folder, "sizes"), settings) for folder in paths]
        if len(models) == 1:
            models[0].open()
        return cls(models)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of what is translated directly."""
        return list(dict.fromkeys((pair.source, pair.target) for pair in self.routes.pairs))

    def fingerprint(self, source: str, target: str, rerank: bool = False) -> str:
        """Of the models that lead from a language to another, and their cards: it changes where translations may.

        Args:
            rerank: of all that have a say then.

        Raises:
            ArgumentError: no way leads there.
            EngineError: a model cannot be opened, or the translator is closed.
        """
        steps = [self._step(pair, rerank) for pair in self.routes.route(source, target)]
        return " ".join(model.fingerprint for step in steps for model, _ in (*step.there, *step.back))

    def translate(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        alternatives: int = 0,
        min_confidence: float = 0.0,
        rerank: bool = False,
    ) -> Translation:
        """Translate a text of any length; paragraphs, line breaks, markup, placeholders and numbers are kept.

        Args:
            text: the text.
            source: its language, such as "en"; if it is not given, told by common words, or by a library, or, without
                that, the only one with a pair to ``target``.
            target: the language to translate to; may be left out where there is only one for ``source``.
            format: "text", "markdown", "html" or "srt".
            beams: 1 takes the likeliest word after word; more compare as many ways to go on.
            alternatives: the number of other translations to return.
            min_confidence: 0..1; sentences that the model is less sure of are left as they are.
            rerank: choose among the answers, ``beams`` of each model that has the pair, by what all these models think
                of them, and what those that lead back think of the way back: better, and several times as slow.

        Raises:
            ArgumentError: no model here translates that, or an argument is out of range.
            MissingExtraError: the language has to be detected, and the library for it is not installed.
            EngineError: the engine failed, or the translator is closed.
            Further as :meth:`load`, where several bundles were loaded: a model is opened when it is first needed.
        """
        return self.translate_batch(
            [text],
            source,
            target,
            format=format,
            beams=beams,
            alternatives=alternatives,
            min_confidence=min_confidence,
            rerank=rerank,
        )[0]

    def translate_batch(
        self,
        texts: Sequence[str],
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        alternatives: int = 0,
        min_confidence: float = 0.0,
        rerank: bool = False,
    ) -> list[Translation]:
        """Translate several texts together, each as :meth:`translate` does alone.

        Raises:
            As :meth:`translate`.
        """
        if isinstance(texts, str):
            raise ArgumentError("texts: expected a sequence of strings, found one string: use translate()")
        search = _search(beams, alternatives, min_confidence, rerank)
        routes = [self._route(text, source, target, format) for text in texts]
        results: dict[int, Translation] = {}
        for route in dict.fromkeys(routes):
            chosen = [i for i, found in enumerate(routes) if found == route]
            documents = [self._cut(texts[i], format, route) for i in chosen]
            rendered = iter(self._render([s for document in documents for s in _sentences(document)], route, search))
            for i, document in zip(chosen, documents, strict=True):
                parts = list(islice(rendered, len(_sentences(document))))
                best, *others = dict.fromkeys(_joined(document, parts, rank) for rank in range(alternatives + 1))
                tally = Tally().count(parts)
                ends = (route[0].source, route[-1].target)
                results[i] = Translation(best, *ends, tuple(others), tally.confidence, tally.kept)
        return [results[i] for i in range(len(texts))]

    def stream(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        *,
        format: Format = "text",
        beams: int = 1,
        min_confidence: float = 0.0,
        rerank: bool = False,
        skip: int = 0,
    ) -> Stream:
        """Translate piece by piece: the pieces, joined, are what :meth:`translate` gives.

        Args:
            skip: the number of pieces at the beginning to leave out, which somebody has already.

        Raises:
            As :meth:`translate`; errors in arguments are raised here.
        """
        route = self._route(text, source, target, format)
        search = _search(beams, 0, min_confidence, rerank)
        parts, tally = self._cut(text, format, route), Tally()
        _check_number("skip", skip, 0, len(parts))
        pieces = self._pieces(iter(parts[skip:]), route, search, tally)
        return Stream(pieces, route[0].source, route[-1].target, len(parts), tally)

    def _cut(self, text: str, format: Format, route: Route) -> list[str | Sentence]:
        return list(cut(text, format, self._models[route[0]].protector, route[0].source))

    def _pieces(self, parts: Iterator[str | Sentence], route: Route, search: Search, tally: Tally) -> Iterator[str]:
        size = 1  # sentences that are waited for: few at first, so that something comes soon
        while window := list(islice(parts, 2 * size)):
            found = iter(self._render(_sentences(window), route, search))
            for part in window:
                if isinstance(part, Sentence):
                    sentence = next(found)
                    tally.count([sentence])
                    yield sentence.texts[0]
                else:
                    yield part
            size = min(4 * size, WINDOW)

    def language(self, text: str, format: Format = "text") -> str:
        """The language of a text, among those of :attr:`pairs`.

        Raises:
            MissingExtraError, ArgumentError: as :meth:`translate`.
        """
        told = (block.text for block in blocks(text, format) if not block.literal)  # scripts are in English everywhere
        return detect(told, self.routes.languages, self._words)

    def close(self) -> None:
        """Free the models. Closing again does nothing; translating then raises EngineError."""
        for model in self._models.values():
            model.close()

    def __enter__(self) -> Translator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _route(self, text: str, source: str | None, target: str | None, format: Format) -> Route:
        if not isinstance(text, str):
            raise ArgumentError(f"text: expected a string, found {type(text).__name__}")
        if source is None:
            source = self._source(text, target, format)
        return self.routes.route(source, self.routes.target(source, target))

    def _source(self, text: str, target: str | None, format: Format) -> str:
        """The text's language; where that would take a library that is missing, the only one that it can be."""
        try:
            return self.language(text, format)
        except MissingExtraError:
            if (only := self.routes.only_source(target)) is None:
                raise
            return only

    def _render(self, sentences: Sequence[Sentence], route: Route, search: Search) -> list[Rendered]:
        return render(sentences, [self._step(pair, search.rerank) for pair in route], search)

    def _step(self, pair: Pair, rerank: bool) -> Step:
        first = (self._models[pair], pair)
        if not rerank:
            return Step((first,))
        there = [voter for voter in self._voters if voter != first and str(voter[1]) == str(pair)]
        back = [(m, p) for m, p in self._voters if (p.source, p.target) == (pair.target, pair.source)]
        return Step((first, *there), tuple(back))


def _sentences(document: Iterable[str | Sentence]) -> list[Sentence]:
    return [part for part in document if isinstance(part, Sentence)]


def _joined(document: Sequence[str | Sentence], sentences: Sequence[Rendered], rank: int) -> str:
    texts = (sentence.texts[rank] for sentence in sentences)
    return "".join(part if isinstance(part, str) else next(texts) for part in document)


def _search(beams: int, alternatives: int, min_confidence: float, rerank: bool) -> Search:
    _check_number("beams", beams, 1, MAX_BEAMS)
    _check_number("alternatives", alternatives, 0, MAX_BEAMS - 1)
    if isinstance(min_confidence, bool) or not isinstance(min_confidence, int | float) or not 0 <= min_confidence <= 1:
        raise ArgumentError(f"min_confidence: expected 0..1, found {min_confidence!r}")
    if type(rerank) is not bool:
        raise ArgumentError(f"rerank: expected true or false, found {rerank!r}")
    return Search(beams, alternatives, min_confidence, rerank)


def _check_number(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ArgumentError(f"{name}: expected {low}..{high}, found {value!r}")
