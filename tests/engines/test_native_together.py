"""Several sessions in one pass of the native engine: each gets the bits that it gets alone, and errors change none."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from edgeslm import _native
from edgeslm.engines.native import NativeEngine
from edgeslm.engines.session import Session, forward_together
from edgeslm.errors import ArgumentError, CancelledError, ContextLengthError, EngineError, RewindError

from .tiny import Array, make_spec, open_pair, random_ids

FULL, WINDOW = make_spec(context=900), make_spec(context=900, attention={"window": 40})
MIXED = make_spec(context=900, blocks=(*FULL.blocks, *WINDOW.blocks), layout=(0, 1, 0))
ONE_HEAD = make_spec(context=900, attention={"n_heads": 20, "n_kv_heads": 1, "head_dim": 8})
CASES = {
    "full": (FULL, "q4", "f16"),
    "window": (WINDOW, "f32", "int8"),
    "mixed": (MIXED, "q8", "f32"),
    "one_head": (ONE_HEAD, "f16", "f16"),
}


class Interleaving:
    """Sequences that go on, fork and end at random, some of them together; what was found for them by position."""

    def __init__(self, native: NativeEngine, seed: int) -> None:
        self.native, self.rng = native, np.random.default_rng(seed)
        self.sessions: list[Session] = []
        self.held: list[list[int]] = []
        self.found: list[tuple[list[int], Array]] = []

    def step(self) -> None:
        if len(self.sessions) < 9:
            fork = bool(self.sessions) and self.rng.random() < 0.3
            self.sessions.append(self.sessions[-1].fork() if fork else self.native.new_session())
            self.held.append(self.held[-1].copy() if fork else [])
        chosen = self.rng.permutation(len(self.sessions))[: self.rng.integers(1, len(self.sessions) + 1)]
        ids = [self.rng.integers(0, 97, self.pick()).astype(np.int32) for _ in chosen]
        logits = forward_together([self.sessions[i] for i in chosen], ids)
        for i, tokens, row in zip(chosen, ids, logits, strict=True):
            self.held[i] += tokens.tolist()
            self.found.append((self.held[i].copy(), row))
        for i in range(len(self.sessions)):
            assert self.sessions[i].ids.tolist() == self.held[i]
            if len(self.held[i]) > 300:
                self.sessions[i].truncate(0)
                self.held[i].clear()

    def pick(self) -> int:
        """One token, a few, a prompt, or more than a pass takes."""
        return int(self.rng.choice([1, 2, 7, 40, 90, 290], p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05]))

    def compare(self) -> None:
        for ids, row in self.found:
            with self.native.new_session() as session:
                assert np.array_equal(session.forward(ids)[0], row)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_random_interleavings_equal_each_alone(case: str, threads: int) -> None:
    spec, form, kv_dtype = CASES[case]
    trace = Interleaving(open_pair(spec, form, threads=threads, kv_dtype=kv_dtype)[0], threads)
    for _ in range(16):
        trace.step()
    assert len(trace.found) > 40
    trace.compare()


@pytest.mark.parametrize("lengths", [[1] * 256, [255, 1, 1], [256, 256], [300, 1, 700], [1, 513, 2]])
def test_where_passes_end_between_and_within_sequences(lengths: list[int]) -> None:
    native = open_pair(MIXED)[0]
    ids = [random_ids(MIXED, n, seed) for seed, n in enumerate(lengths)]
    sessions = [native.new_session() for _ in ids]
    logits = forward_together(sessions, ids)
    again = forward_together(sessions, [[3]] * len(sessions))
    for i in {0, 1, len(ids) - 1}:
        alone = native.new_session()
        assert np.array_equal(alone.forward(ids[i]), logits[i : i + 1])
        assert np.array_equal(alone.forward([3]), again[i : i + 1])


def test_all_rows_of_several_sessions() -> None:
    native = open_pair(MIXED)[0]
    caches: list[Any] = [native.new_session()._cache for _ in range(3)]
    ids = [random_ids(MIXED, n, n) for n in (3, 280, 1)]
    logits = np.empty((284, 97), np.float32)
    _native.run([c.session for c in caches], [0, 0, 0], [3, 280, 1], np.concatenate(ids), True, logits)
    alone = [native.new_session().forward(x, "all") for x in ids]
    assert np.array_equal(logits, np.concatenate(alone))


def two_sessions(**fields: Any) -> tuple[NativeEngine, Session, Session]:
    native = open_pair(make_spec(**fields))[0]
    a, b = native.new_session(), native.new_session()
    a.forward([1, 2, 3])
    b.forward([4, 5])
    return native, a, b


@pytest.mark.parametrize("ids", [[[1], [97]], [[-1], [1]], [[1], []], [[1], [1.5]], [[1]], [[1], [1], [1]]])
def test_bad_ids_change_no_session(ids: Any) -> None:
    _, a, b = two_sessions()
    with pytest.raises(ArgumentError):
        forward_together([a, b], ids)
    assert (a.length, b.length) == (3, 2)


def test_sessions_must_be_different_and_of_one_engine() -> None:
    native, a, b = two_sessions()
    for sessions, match in [([], "found 0"), ([a, b, a], "only once"), ([a] * 257, "256"), (two_sessions()[1:], None)]:
        together = [a, *sessions] if match is None else sessions
        with pytest.raises(ArgumentError, match=match or "several engines"):
            forward_together(together, [[1]] * len(together))
    assert (a.length, b.length) == (3, 2)
    logits = np.empty((2, 97), np.float32)
    one: Any = a._cache
    other: Any = two_sessions()[1]._cache
    for second in (one, other):  # C does not trust its caller
        with pytest.raises(ArgumentError, match="different ones of one model"):
            _native.run([one.session, second.session], [3, 3], [1, 1], np.ones(2, np.int32), False, logits)
    assert np.array_equal(a.forward([7]), native.new_session().forward([1, 2, 3, 7]))


def test_a_full_or_closed_session_stops_all() -> None:
    native, a, b = two_sessions(context=30)
    b.forward([6] * 27)
    with pytest.raises(ContextLengthError):
        forward_together([a, b], [[1], [2, 3]])
    closed = native.new_session()
    closed.close()
    with pytest.raises(EngineError, match="closed"):
        forward_together([a, closed], [[1], [2]])
    assert (a.length, b.length) == (3, 29)
    assert np.array_equal(forward_together([b, a], [[1], [9]])[1:], native.new_session().forward([1, 2, 3, 9]))


def test_a_cancelled_session_stops_all_once() -> None:
    native, a, b = two_sessions()
    b.cancel()
    with pytest.raises(CancelledError):
        forward_together([a, b], [[1], [2]])
    assert (a.length, b.length) == (3, 2) and not a.uncancel() and not b.uncancel()
    assert np.array_equal(forward_together([a, b], [[7], [8]])[:1], native.new_session().forward([1, 2, 3, 7]))


def test_a_cancel_of_one_session_stops_a_run_under_way() -> None:
    native = open_pair(make_spec(context=60_000, attention={"window": 9}))[0]
    long, short = native.new_session(), native.new_session()
    forward_together([short, long], [[1, 2], [3] * 10])
    timer = threading.Timer(0.05, short.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        forward_together([short, long], [[3], random_ids(native.spec, 59_000)])
    timer.join()
    assert (short.length, long.length) == (2, 10)
    assert np.array_equal(short.forward([3]), native.new_session().forward([1, 2, 3]))
    with suppress(RewindError):  # where its ring was overwritten
        assert np.array_equal(long.forward([3]), native.new_session().forward([3] * 11))


def test_threads_may_share_sessions() -> None:
    native = open_pair(FULL)[0]
    sessions = [native.new_session() for _ in range(4)]

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            chosen = [sessions[i] for i in rng.permutation(4)[:3]]
            forward_together(chosen, [[seed]] * 3)
            sessions[seed].forward([seed])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(s.length for s in sessions) == 4 * 20 * 4
    for session in sessions:
        ids = [*session.ids, 5]
        assert np.array_equal(session.forward([5]), native.new_session().forward(ids))
