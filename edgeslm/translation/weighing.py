"""Answers weighed by every model that has a say: those that have the pair, and those that lead back.

A translation that leads back to the original with a high probability leaves little out and makes little up: Yee,
Dauphin and Auli, "Simple and Effective Noisy Channel Modeling for Neural Machine Translation", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from edgeslm.translation.card import Pair
from edgeslm.translation.model import Model
from edgeslm.translation.phrases import Answer

BACK = 0.5  # of what leads back, beside 1 of what leads there; from 0.35 to 0.75 it makes little difference

Voter = tuple[Model, Pair]


class Step(NamedTuple):
    """A part of a route.

    Attributes:
        there: models that have the pair; the first one translates where nothing is weighed.
        back: models of the opposite pair, as far as they are to be asked.
    """

    there: tuple[Voter, ...]
    back: tuple[Voter, ...] = ()

    def ask(self, texts: Sequence[str], beams: int) -> list[list[Answer]]:
        """Answers to each text, best first; what the first model's card knows is not weighed.

        Raises:
            As :meth:`Model.ask`.
        """
        (model, pair), *others = self.there
        found = model.ask(texts, pair, beams)
        if not others and not self.back:
            return found
        open_ = [i for i, text in enumerate(texts) if pair.phrasebook.get(text) is None]
        asked = [texts[i] for i in open_]
        more = [model.ask(asked, pair, beams) for model, pair in others]
        for i, *some in zip(open_, *more, strict=True):
            found[i] = _union([found[i], *some])
        undecided = [i for i in open_ if len(found[i]) > 1 and found[i][0].sound]
        weighed = self._weighed([(texts[i], answer.text) for i in undecided for answer in found[i]])
        for i in undecided:
            found[i] = [answer for _, answer in sorted(islice(weighed, len(found[i])), key=lambda one: -one[0])]
        return found

    def _weighed(self, answered: Sequence[tuple[str, str]]) -> Iterator[tuple[float, Answer]]:
        """Answers to texts, (text, answer) each, with their weight."""
        there = _mean(model.score(answered, pair) for model, pair in self.there)
        back = _mean(model.score([(b, a) for a, b in answered], pair) for model, pair in self.back)
        for (_, answer), likely, leads_back in zip(answered, there, back or [0.0] * len(answered), strict=True):
            yield likely + BACK * leads_back, Answer(answer, confidence=math.exp(likely))


def _union(found: Sequence[Sequence[Answer]]) -> list[Answer]:
    """All answers that came to an end, each text once; the first one's where there are none."""
    answers: dict[str, Answer] = {}
    for answer in (answer for some in found for answer in some if answer.sound):
        answers.setdefault(answer.text, answer)
    return list(answers.values()) or list(found[0])


def _mean(votes: Iterable[Sequence[float]]) -> list[float]:
    """Of each text; empty where nobody votes."""
    return [sum(some) / len(some) for some in zip(*votes, strict=True)]
