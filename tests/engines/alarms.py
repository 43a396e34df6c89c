"""Signals that arrive while something runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SOON = 0.05  # seconds
NEEDS_TIMERS = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")


@contextmanager
def signal_soon(handler: Callable[..., Any], delay: float = SOON) -> Iterator[None]:
    """A signal arrives while the block runs."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, delay)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
