"""Greedy decoding within the native engine: token by token what the likeliest ones of plain forwards are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeslm.engines.native import NativeEngine
from edgeslm.engines.protocol import GreedyEngine
from edgeslm.errors import ArgumentError, ContextLengthError, EngineError
from edgeslm.translation.search import runs_in_circles

from .alarms import NEEDS_TIMERS, interrupt, signal_soon
from .tiny import make_spec, open_pair

FULL = make_spec(context=900)
WINDOW = make_spec(context=900, attention={"window": 40})
WIDE = make_spec(context=900, vocab_size=700)  # more logits than are compared at once
Answer = tuple[list[int], bool, Any]  # tokens, did one of the ends come, log probability


def plainly(native: NativeEngine, prompt: list[int], limit: int, fresh: bool, ends: set[int]) -> Answer:
    tokens: list[int] = []
    score = 0.0
    with native.new_session() as session:
        logits = session.forward(prompt)[0]
        while True:
            for i in range(len(tokens) - 2) if fresh else ():
                if tokens[i : i + 2] == tokens[-2:]:
                    logits[tokens[i + 2]] = -np.inf
            token = int(logits.argmax())
            score -= float(np.log(np.exp(np.float64(logits - logits[token])).sum()))
            if token in ends:
                return tokens, True, pytest.approx(score, abs=1e-5)
            tokens.append(token)
            if len(tokens) == limit or runs_in_circles(tokens):
                return tokens, False, pytest.approx(score, abs=1e-5)
            logits = session.forward([token])[0]


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Of several lengths; half begin as the one before does."""
    rng = np.random.default_rng(seed)
    made: list[list[int]] = []
    for i in range(count):
        kept = made[-1][: int(rng.integers(0, len(made[-1]) + 1))] if i % 2 else []
        made.append([*kept, *rng.integers(0, 97, int(rng.choice([1, 3, 9, 60]))).tolist()])
    return made


def run_all(
    native: NativeEngine, asked: list[tuple[list[int], int, bool]], ends: set[int], slots: int, wanted: int
) -> Any:
    batch, waiting, found = native.greedy(slots, ends), list(enumerate(asked)), {}
    while waiting or len(batch):
        while waiting and len(batch) < slots:
            at, (prompt, limit, fresh) = waiting.pop(0)
            batch.start(at, np.array(prompt, np.int32), limit, fresh)
        running = len(batch)
        ended = batch.run(wanted)
        assert len(ended) >= min(wanted, running)
        found.update({at: tuple(rest) for at, *rest in ended})
    return [found[i] for i in range(len(asked))]


@pytest.mark.parametrize(("slots", "wanted"), [(1, 1), (3, 1), (8, 3), (16, 100)])
@pytest.mark.parametrize("spec", [FULL, WINDOW, WIDE], ids=["full", "window", "wide"])
def test_answers_are_those_of_plain_forwards(spec: Any, slots: int, wanted: int) -> None:
    native = open_pair(spec, "q4")[0]
    assert isinstance(native, GreedyEngine)
    ends = {5, 11, 30, 31, 70, *range(100, 130), *range(600, 620)}
    asked = [(prompt, 1 + 7 * i % 50, i % 3 == 0) for i, prompt in enumerate(prompts(24))]
    expected = [plainly(native, *one, ends) for one in asked]
    assert {sound for _, sound, _ in expected} == {True, False}
    assert run_all(native, asked, ends, slots, wanted) == expected


def test_answers_that_run_in_circles_are_cut(tiny_loop: NativeEngine) -> None:
    asked = [(prompt, 200, False) for prompt in prompts(6, seed=1)]
    found = run_all(tiny_loop, asked, set(), 6, 2)
    assert found == [plainly(tiny_loop, *one, set()) for one in asked]
    assert all(len(tokens) < 200 and not sound for tokens, sound, _ in found)
    fresh = run_all(tiny_loop, [(prompt, 200, True) for prompt, _, _ in asked], set(), 6, 2)
    assert any(len(tokens) == 200 for tokens, _, _ in fresh)


@pytest.fixture
def tiny_loop() -> NativeEngine:
    """Its attention sees the last token alone, so it comes to a circle soon."""
    return open_pair(make_spec(context=900, attention={"window": 1}))[0]


def test_an_error_leaves_nothing_under_way_and_the_next_run_is_sound() -> None:
    native = open_pair(FULL)[0]
    batch = native.greedy(4, {5})
    for prompt, limit, error in (([1, 10**6], 3, ArgumentError), ([1] * 890, 100, ContextLengthError)):
        batch.start(0, np.array([1, 2, 3], np.int32), 100, True)
        batch.start(1, np.array(prompt, np.int32), limit, True)
        with pytest.raises(error):
            batch.run(2)
        assert len(batch) == 0 and batch.run(1) == []
    batch.start(7, np.array([1, 2, 3], np.int32), 9, False)
    assert batch.run(1) == [(7, *plainly(native, [1, 2, 3], 9, False, {5}))]


def test_more_than_there_is_room_for_is_refused() -> None:
    native = open_pair(FULL)[0]
    for slots in (0, 257):
        with pytest.raises(ArgumentError, match=r"slots: expected 1\.\.256"):
            native.greedy(slots, {5})
    batch = native.greedy(1, {5})
    for prompt, limit in (([], 3), ([1], 0)):
        with pytest.raises(ArgumentError, match="expected a prompt"):
            batch.start(0, np.array(prompt, np.int32), limit, False)
    batch.start(0, np.array([1], np.int32), 3, False)
    with pytest.raises(ArgumentError, match="at most 1"):
        batch.start(1, np.array([1], np.int32), 3, False)


def test_a_closed_model_says_so() -> None:
    native = open_pair(FULL)[0]
    batch = native.greedy(1, {5})
    batch.start(0, np.array([1], np.int32), 3, False)
    native.close()
    with pytest.raises(EngineError, match="closed"):
        batch.run(1)


@NEEDS_TIMERS
def test_a_signal_stops_it_between_two_tokens() -> None:
    native = open_pair(make_spec(context=8000))[0]
    batch = native.greedy(1, set())
    for delay in range(20):  # some of them come at the end of a step, too late to stop it
        batch.start(0, np.array([1], np.int32), 7900, True)
        with signal_soon(interrupt, 0.005 + delay * 1e-4), pytest.raises(KeyboardInterrupt):
            batch.run(1)
        assert len(batch) == 0
