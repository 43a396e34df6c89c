"""Sentences through the models of a route: what becomes of each, and how sure the models were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeslm.translation.document import Sentence
from edgeslm.translation.phrases import Answer, Outcome
from edgeslm.translation.weighing import Step


class Search(NamedTuple):
    """How translations are looked for, as :meth:`~edgeslm.translation.translator.Translator.translate` takes it."""

    beams: int = 1
    alternatives: int = 0
    min_confidence: float = 0.0
    rerank: bool = False

    @property
    def lines(self) -> int:
        """Beams that are needed for all alternatives."""
        return max(self.beams, self.alternatives + bool(self.alternatives))


class Rendered(NamedTuple):
    """What became of a sentence.

    Attributes:
        texts: its translation, and alternatives to it; the sentence itself where it is kept.
        confidence: 0..1, the least of all answers that the translation is made of.
        kept: was it less than asked for?
    """

    texts: tuple[str, ...]
    confidence: float
    kept: bool


@dataclass
class Tally:
    """Over some sentences: the least confidence of those translated, 1 where there are none; and how many were kept."""

    confidence: float = 1.0
    kept: int = 0

    def count(self, sentences: Iterable[Rendered]) -> Tally:
        """Count these, too."""
        for sentence in sentences:
            self.kept += sentence.kept
            self.confidence = self.confidence if sentence.kept else min(self.confidence, sentence.confidence)
        return self


def render(sentences: Sequence[Sentence], steps: Sequence[Step], search: Search) -> list[Rendered]:
    """Sentences translated, with everything that a model is asked asked together.

    Raises:
        As :meth:`Model.ask`.
    """
    ask = [_Ranked(step, search.lines) for step in steps]
    ranked = [_translated(sentences, ask, rank) for rank in range(search.alternatives + 1)]
    return [_rendered(one, found, search) for one, found in zip(sentences, zip(*ranked, strict=True), strict=True)]


def _translated(sentences: Sequence[Sentence], ask: Sequence[_Ranked], rank: int) -> list[Outcome]:
    found = [Outcome(sentence.text) for sentence in sentences]
    for asked in ask:
        asked.rank = rank
        model, pair = asked.step.there[0]
        new = model.translate([outcome.text for outcome in found], pair.source, asked)
        found = [Outcome(b.text, min(a.confidence, b.confidence)) for a, b in zip(found, new, strict=True)]
    return found


def _rendered(sentence: Sentence, found: Sequence[Outcome], search: Search) -> Rendered:
    kept = found[0].confidence < search.min_confidence
    texts = (sentence.text,) * len(found) if kept else tuple(outcome.text for outcome in found)
    return Rendered(tuple(map(sentence.laid_out, texts)), found[0].confidence, kept)


@dataclass
class _Ranked:
    """Asks for each text once, and gives of its answers the one of a rank, or the last."""

    step: Step
    beams: int
    rank: int = 0
    known: dict[str, list[Answer]] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> list[Answer]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self.step.ask(new, self.beams), strict=True))
        return [answers[min(self.rank, len(answers) - 1)] for answers in map(self.known.__getitem__, texts)]
