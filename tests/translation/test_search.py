from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from reference_beams import best_of_all

from edgeslm.bundle import Bundle
from edgeslm.engines import session
from edgeslm.engines.protocol import Engine, Logits
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session import Session
from edgeslm.translation import search
from edgeslm.translation.search import Candidate, Query, Searcher, runs_in_circles

ENDS = frozenset({2})


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Iterator[Engine]:
    opened = open_engine(Bundle.open(tiny_bundle), "native", 1)
    yield opened
    opened.close()


def queries(count: int, **others: object) -> list[Query]:
    rng = np.random.default_rng(0)
    return [
        Query([1, *rng.integers(3, 320, 1 + 3 * i % 7).tolist()], 4 + i % 5, **others)  # type: ignore[arg-type]
        for i in range(count)
    ]


def key(found: list[Candidate]) -> list[tuple[tuple[int, ...], bool]]:
    return [(tuple(candidate.tokens), candidate.sound) for candidate in found]


@pytest.mark.parametrize("beams", [1, 3])
def test_together_as_alone(engine: Engine, beams: int) -> None:
    asked = queries(9, beams=beams)
    alone = [Searcher([engine], ENDS, 1).run([query], 1)[0] for query in asked]
    for batch in (2, 8):
        searcher = Searcher([engine, engine], ENDS, batch)
        assert list(map(key, searcher.run(asked, len(asked)))) == list(map(key, alone))
        assert list(map(key, searcher.run(asked[::-1], len(asked)))) == list(
            map(key, alone[::-1])
        )  # sessions are used again
    assert all(found for found in alone)


def test_beams_fill_a_batch_and_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def forward_together(sessions: list[Session], ids: list[list[int]]) -> Logits:
        rows.append(len(sessions))
        return session.forward_together(sessions, ids)

    monkeypatch.setattr(search, "forward_together", forward_together)
    Searcher([engine], ENDS, 8).run(queries(9, beams=3), 9)
    assert max(rows) == 6
    assert len(Searcher([engine], ENDS, 1).run(queries(1, beams=3), 1)[0]) == 3


def test_what_is_not_asked_has_no_answers(engine: Engine) -> None:
    asked = [None, *queries(2), None]
    found = Searcher([engine, engine], ENDS, 8).run(iter(asked), len(asked))
    assert [bool(candidates) for candidates in found] == [False, True, True, False]


def test_an_engine_that_runs_its_sessions_one_by_one(tiny_bundle: Path) -> None:
    reference = open_engine(Bundle.open(tiny_bundle), "reference")
    asked = queries(2) + queries(1, beams=2)
    alone = [Searcher([reference], ENDS, 1).run([query], 1)[0] for query in asked]
    assert list(map(key, Searcher([reference], ENDS, 4).run(asked, len(asked)))) == list(map(key, alone))


def test_beams_find_what_a_plain_search_finds(engine: Engine) -> None:
    for query in queries(3, beams=3):
        (found,) = Searcher([engine], ENDS, 4).run([query], 1)
        expected = best_of_all(engine, query, ENDS)
        assert [tuple(c.tokens) for c in found] == [tokens for tokens, _ in expected]
        assert [c.score for c in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_greedy_keeps_to_its_limit(engine: Engine) -> None:
    for query in queries(4):
        ((found,),) = Searcher([engine], frozenset(), 4).run([query], 1)
        assert len(found.tokens) == query.limit or runs_in_circles(found.tokens)
        assert not found.sound


class Stepwise:
    """An engine that does not take tokens itself."""

    def __init__(self, engine: Engine) -> None:
        self.new_session = engine.new_session


@pytest.mark.parametrize("ends", [ENDS, frozenset[int]()], ids=["ended", "cut"])
@pytest.mark.parametrize("fresh", [False, True])
def test_greedy_scores_are_log_probabilities_per_token(engine: Engine, ends: frozenset[int], fresh: bool) -> None:
    """In the engine as step by step, which ``best_of_all`` is another witness of."""
    for query in queries(4):
        query = query._replace(fresh=fresh)
        ((inside,),) = Searcher([engine], ends, 4).run([query], 1)
        ((outside,),) = Searcher([cast(Engine, Stepwise(engine))], ends, 4).run([query], 1)
        assert inside.tokens == outside.tokens and inside.score == pytest.approx(outside.score, abs=1e-5)
    query = Query([1, 5], 3)
    ((found,),) = Searcher([engine], ENDS, 4).run([query], 1)
    ways = best_of_all(engine, query, ENDS)
    assert found.score == pytest.approx(dict(ways)[tuple(found.tokens)], abs=1e-5)


def test_fresh_answers_have_no_three_tokens_twice(engine: Engine) -> None:
    for beams in (1, 2):
        ((found, *_),) = Searcher([engine], frozenset(), 4).run([Query([1, 5], 60, beams, fresh=True)], 1)
        triples = [tuple(found.tokens[i : i + 3]) for i in range(58)]
        assert len(found.tokens) == 60 and len(set(triples)) == len(triples)


@pytest.mark.parametrize(
    ("tokens", "circles"),
    [
        ([1, 2, 3], False),
        ([1, 1, 1], False),
        ([9, 1, 1, 1, 1], True),
        ([1, 2] * 4, True),
        ([1, 2] * 3 + [1], False),
        ([5, *[1, 2, 3, 4, 5, 6, 7, 8] * 4], True),
        ([1, 1, 2, 1, 1, 2, 1, 1], False),
    ],
)
def test_circles(tokens: list[int], circles: bool) -> None:
    assert runs_in_circles(tokens) is circles


def test_an_error_of_the_engine_comes_out_and_the_next_run_is_sound(tiny_bundle: Path) -> None:
    engine = open_engine(Bundle.open(tiny_bundle), "native", 1)
    searcher = Searcher([engine, engine], ENDS, 2)
    before = searcher.run(queries(3), 3)
    with pytest.raises(Exception, match="vocabulary"):
        searcher.run([*queries(3), Query([1, 10**6], 3)], 4)
    assert list(map(key, searcher.run(queries(3), 3))) == list(map(key, before))
    searcher.close()
