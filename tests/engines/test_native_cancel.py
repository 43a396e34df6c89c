"""Stopping a native run: by cancel(), by a signal, while it computes or waits for its turn. What is held stays held."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from edgeslm.engines.native import NativeEngine
from edgeslm.engines.session import Session
from edgeslm.errors import CancelledError, RewindError

from .alarms import NEEDS_TIMERS, SOON, interrupt, signal_soon
from .tiny import make_spec, open_pair, random_ids

LONG = 60_000  # tokens: a run of a second or more
pytestmark = NEEDS_TIMERS


def open_long(threads: int = 2, window: int = 9) -> NativeEngine:
    """A model on which long runs are cheap."""
    return open_pair(make_spec(context=LONG + 100, attention={"window": window}), threads=threads)[0]


def written(session: Session) -> int:
    cache: Any = session._cache
    return int(cache.session.high)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_interrupt_stops_the_run_and_leaves_the_session(threads: int) -> None:
    native = open_pair(make_spec(context=8000, layers=8), threads=threads)[0]  # a run of seconds
    ids, session = random_ids(native.spec, 7900), native.new_session()
    session.forward(ids[:100])
    with signal_soon(interrupt), pytest.raises(KeyboardInterrupt):
        session.forward(ids[100:])
    assert session.length == 100 and written(session) < len(ids), "it ran to its end"
    fresh = native.new_session()
    fresh.forward(ids[:100])
    assert np.array_equal(session.forward(ids[100:110], "all"), fresh.forward(ids[100:110], "all"))


def test_where_a_ring_was_overwritten_the_session_says_so_until_it_starts_again() -> None:
    native = open_long()
    ids, session = random_ids(native.spec, LONG), native.new_session()
    expected = session.forward(ids[:100], "all")
    for delay in (SOON, 0.5, 5.0):  # on a slow machine the ring outlives the first
        with signal_soon(interrupt, delay), pytest.raises(KeyboardInterrupt):
            session.forward(ids[100:])
        if written(session) > 600:
            break
    assert session.ids.tolist() == ids[:100].tolist() and 600 < written(session) < LONG
    for call in (lambda: session.forward(ids[:1]), session.fork, lambda: session.truncate(99)):
        with pytest.raises(RewindError, match="truncate to 0"):
            call()
    session.truncate(0)
    assert np.array_equal(session.forward(ids[:100], "all"), expected)


def test_a_handler_that_returns_lets_the_run_go_on() -> None:
    native, seen = open_long(), []
    ids = random_ids(native.spec, LONG)
    expected = native.new_session().forward(ids)
    with signal_soon(lambda *_: seen.append(1)):
        found = native.new_session().forward(ids)
    assert seen and np.array_equal(found, expected)


def test_a_handler_may_cancel() -> None:
    native = open_long()
    session = native.new_session()
    with signal_soon(lambda *_: session.cancel()), pytest.raises(CancelledError):
        session.forward(random_ids(native.spec, LONG))
    assert session.length == 0 and written(session) < LONG


@pytest.mark.parametrize("stop", ["interrupt", "cancel"])
def test_a_run_that_waits_for_its_turn_can_be_stopped(stop: str) -> None:
    native = open_long()
    ids, waiting, running = random_ids(native.spec, LONG), native.new_session(), native.new_session()
    waiting.forward(ids[:10])

    def run() -> None:
        with suppress(CancelledError):
            running.forward(ids)

    thread = threading.Thread(target=run)

    def handler(*_: object) -> None:
        if stop == "interrupt":
            raise KeyboardInterrupt
        waiting.cancel()

    with signal_soon(handler), pytest.raises(KeyboardInterrupt if stop == "interrupt" else CancelledError):
        thread.start()
        while True:  # whether it waits for its turn or runs when the signal comes
            waiting.forward(ids[10:20])
            waiting.truncate(10)
    running.cancel()
    thread.join()
    assert waiting.length in (10, 20)
    waiting.truncate(10)
    fresh = native.new_session()
    fresh.forward(ids[:10])
    assert np.array_equal(waiting.forward(ids[10:20]), fresh.forward(ids[10:20]))


def test_a_cancel_from_another_thread_stops_the_run() -> None:
    native = open_long()
    ids, session = random_ids(native.spec, LONG), native.new_session()
    session.forward(ids[:10])
    timer = threading.Timer(SOON, session.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        session.forward(ids[10:])
    timer.join()
    assert session.length == 10 and written(session) < LONG
    session.truncate(0)
    assert session.forward(ids[:10]).shape == (1, 97)
