"""Answers weighed by every model that has a say: those that have the pair, and those that lead back.

A translation that leads back to the original with a high probability leaves little out and makes little up: Yee,
Dauphin and Auli, "Simple and Effective Noisy Channel Modeling for Neural Machine Translation", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
        union = [_sound(answers) for answers in zip([found[i] for i in open_], *more, strict=True)]
        for i, weighed in zip(open_, self._weighed(asked, union), strict=True):
            found[i] = weighed or found[i]
        return found

    def _weighed(self, texts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[list[Answer]]:
        pairs = [(text, candidate) for text, some in zip(texts, candidates, strict=True) for candidate in some]
        there = _mean(model.score(pairs, pair) for model, pair in self.there)
        back = _mean(model.score([(b, a) for a, b in pairs], pair) for model, pair in self.back)
        scores = iter(zip(there, back or [0.0] * len(pairs), strict=True))
        found = []
        for some in candidates:
            scored = [(text, *next(scores)) for text in some]
            scored.sort(key=lambda item: -(item[1] + BACK * item[2]))
            found.append([Answer(text, confidence=math.exp(likely)) for text, likely, _ in scored])
        return found


def _sound(answers: Iterable[Sequence[Answer]]) -> list[str]:
    """The texts of all that came to an end, each once."""
    return list(dict.fromkeys(answer.text for some in answers for answer in some if answer.sound))


def _mean(votes: Iterable[Sequence[float]]) -> list[float]:
    """Of each text; empty where nobody votes."""
    return [sum(some) / len(some) for some in zip(*votes, strict=True)]
