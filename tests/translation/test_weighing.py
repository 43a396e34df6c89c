"""Answers weighed by several models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from edgeslm import Translator, embedded
from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import open_engine
from edgeslm.translation.card import Pair
from edgeslm.translation.model import Model
from edgeslm.translation.phrases import Answer
from edgeslm.translation.search import Searcher
from edgeslm.translation.weighing import BACK, Step

THERE, HERE = Pair("en", "de", "{text}", {"Hi": "Hallo"}), Pair("de", "en", "{text}")
ENDS = frozenset({2, 7})


class Thinks:
    """A model that gives these answers, and finds answers so likely (nothing else)."""

    def __init__(self, answers: Sequence[Answer], likely: dict[tuple[str, str], float]) -> None:
        self._answers, self._likely = answers, likely

    def ask(self, texts: Sequence[str], pair: Pair, beams: int) -> list[list[Answer]]:
        return [[Answer("Hallo.")] if text == "Hi" else list(self._answers)[:beams] for text in texts]

    def score(self, answered: Sequence[tuple[str, str]], pair: Pair) -> list[float]:
        return [self._likely[pair] for pair in answered]


def step(*there: Thinks, back: Sequence[Thinks] = ()) -> Step:
    return Step(
        tuple((cast(Model, model), THERE) for model in there), tuple((cast(Model, model), HERE) for model in back)
    )


def texts(found: Sequence[Sequence[Answer]]) -> list[list[str]]:
    return [[answer.text for answer in some] for some in found]


ONE = Thinks([Answer("A"), Answer("B"), Answer("C", sound=False)], {("x", "A"): -1, ("x", "B"): -2, ("x", "D"): -1.5})
OTHER = Thinks([Answer("D"), Answer("A")], {("x", "A"): -3, ("x", "B"): -1, ("x", "D"): -1.7})
BACKWARDS = Thinks([], {("A", "x"): -5, ("B", "x"): -1, ("D", "x"): -1.5})


def test_all_that_have_the_pair_have_a_say_and_those_that_lead_back() -> None:
    assert texts(step(ONE).ask(["x"], 3)) == [["A", "B", "C"]]  # nobody else to ask
    (weighed,) = step(ONE, OTHER).ask(["x"], 3)
    assert [answer.text for answer in weighed] == ["B", "D", "A"]  # -1.5, -1.6, -2; C did not come to an end
    assert [answer.confidence for answer in weighed] == pytest.approx([math.exp(s) for s in (-1.5, -1.6, -2)])
    assert texts(step(ONE, OTHER).ask(["x"], 1)) == [["D", "A"]]  # one answer of each
    assert texts(step(ONE, back=[BACKWARDS]).ask(["x"], 3)) == [["B", "A"]]
    assert -2 - BACK > -1 - 5 * BACK
    assert texts(step(ONE, OTHER, back=[BACKWARDS, BACKWARDS]).ask(["x"], 3)) == [["B", "D", "A"]]


def test_what_the_card_knows_and_what_did_not_come_to_an_end_stays() -> None:
    runs = Thinks([Answer("C", sound=False), Answer("E", sound=False)], {})
    assert texts(step(ONE, runs, back=[BACKWARDS]).ask(["Hi"], 2)) == [["Hallo."]]
    assert texts(step(runs, runs, back=[BACKWARDS]).ask(["Hi", "x"], 2)) == [["Hallo."], ["C", "E"]]
    assert not step(runs, runs).ask(["x"], 2)[0][0].sound
    assert texts(step(runs, OTHER).ask(["x"], 1)) == [["D"]]  # nothing to choose
    assert step(ONE, OTHER, back=[BACKWARDS]).ask([], 2) == []


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Iterator[Engine]:
    opened = open_engine(Bundle.open(tiny_bundle), "native", 1)
    yield opened
    opened.close()


def expected(engine: Engine, prompt: list[int], answer: list[int]) -> float:
    with engine.new_session() as session:
        rows = session.forward([*prompt, *answer], rows="all").astype(np.float64)[len(prompt) - 1 :]
    probabilities = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    taken = [probabilities[i, token] for i, token in enumerate(answer)] + [probabilities[-1, sorted(ENDS)].sum()]
    return float(np.log(taken).mean())


def test_scores_are_log_probabilities_per_token(engine: Engine) -> None:
    jobs = [([1, 5, 9], [[4, 4, 8], [], [4, 4, 9, 11]]), ([1], []), ([1, 5], [[6]])]
    context = engine.spec.context_length
    for searcher in (Searcher([engine], ENDS, 1), Searcher([engine], ENDS, 2, [lambda: engine])):
        for found, (prompt, answers) in zip(searcher.score(jobs), jobs, strict=True):
            assert found == pytest.approx([expected(engine, prompt, answer) for answer in answers], abs=1e-5)
        assert searcher.score([([1] * (context + 1), [[3], [4]])]) == [[-math.inf, -math.inf]]
        ((long, short),) = searcher.score([([1] * (context - 1), [[3, 4], [3]])])
        assert long == -math.inf and math.isfinite(short)
        assert searcher.score([]) == []


def test_models_choose_alike_alone_and_together(one_way: Path) -> None:
    texts = [
        "I'd rather stay at home tonight.",
        "Settings",
        "{name} bought %1$s tickets for the concert of the century.",
        "",
        "He told me <b>never</b> to touch that.",
        "applause applause applause applause applause",
    ]
    with Translator.load([embedded.BUNDLE, one_way], threads=2) as translator:
        for source, target in (("en", "de"), ("en", "fr")):
            together = translator.translate_batch(texts, source, target, beams=4, alternatives=2, rerank=True)
            for text, found in zip(texts, together, strict=True):
                assert translator.translate(text, source, target, beams=4, alternatives=2, rerank=True) == found
                assert all(found.text.count(kept) == text.count(kept) for kept in ("{name}", "%1$s", "<b>", "</b>"))
            assert together[1].text == translator.translate("Settings", source, target).text
            assert {found.text for found in together} != {
                found.text for found in translator.translate_batch(texts, source, target)
            }
        one, all_of_them = (translator.fingerprint("en", "de", rerank) for rerank in (False, True))
        assert len(all_of_them) == 3 * len(one) + 2  # two that lead there, one of which leads back
