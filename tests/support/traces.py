"""Random traces of what sessions can do, held against runs that were never cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeslm.engines.protocol import Engine
from edgeslm.engines.session import Session
from edgeslm.errors import RewindError

NEAR_TIE = 1e-4  # of max |logit|: where the two best tokens are closer, rounding may decide


class Trace:
    """A few sessions of one engine, cut, forked, saved and loaded at random. ``counts`` tells what happened.

    Args:
        lengths: of the pieces that are run, and to which sessions are cut.
        exact: logits must be equal to the bit; otherwise the most likely tokens must be equal, near-ties excepted.
    """

    def __init__(self, engine: Engine, seed: int, lengths: list[int], folder: Path, exact: bool = False) -> None:
        self.engine, self.lengths, self.folder, self.exact = engine, lengths, folder, exact
        self.rng = np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self.texts = self.rng.integers(0, engine.spec.vocab_size, (3, engine.spec.context_length)).astype(np.int32)
        self.sessions = [engine.new_session()]
        self.held: list[list[int]] = [[]]  # what each session should hold
        self.found: list[tuple[list[int], Any]] = []  # tokens, and the logits found for the last of them

    def run(self, steps: int) -> None:
        """Take the steps, then compare everything found with cold runs."""
        actions = [self.forward] * 5 + [self.truncate] * 3 + [self.fork, self.reload]
        for _ in range(steps):
            i = int(self.rng.integers(len(self.sessions)))
            actions[int(self.rng.integers(len(actions)))](i)
            assert [s.length for s in self.sessions] == [len(h) for h in self.held]
            assert self.sessions[i].ids.tolist() == self.held[i]
        for session in self.sessions:
            session.close()
        self.compare()

    def forward(self, i: int, n: int = 0) -> None:
        held = self.held[i]
        n = min(n or self.pick(), self.engine.spec.context_length - len(held))
        if n:
            ids = self.texts[self.rng.choice(3, p=[0.8, 0.1, 0.1])][len(held) : len(held) + n]
            rows = "all" if self.rng.random() < 0.3 else "last"
            logits = self.sessions[i].forward(ids, rows)
            held += ids.tolist()
            self.found.append((held.copy(), logits))
            self.counts["forward"] += 1

    def truncate(self, i: int) -> None:
        session, held = self.sessions[i], self.held[i]
        length = min(self.pick(), len(held)) if self.rng.random() < 0.5 else max(0, len(held) - self.pick())
        try:
            session.truncate(length)
            del held[length:]
            self.counts["truncate"] += 1
        except RewindError:
            assert any(block.mixer.window for block in self.engine.spec.layers)
            assert session.ids.tolist() == held
            self.counts["rewind refused"] += 1
            if self.rng.random() < 0.5:  # what a caller does then: all of it again
                session.truncate(0)
                if length:
                    session.forward(held[:length])
                del held[length:]

    def fork(self, i: int) -> None:
        self.place(self.sessions[i].fork(), self.held[i].copy())
        self.counts["fork"] += 1

    def reload(self, i: int) -> None:
        path = self.folder / "session"
        self.sessions[i].save(path)
        if self.rng.random() < 0.5:
            session = self.engine.new_session()
            session.load(path)
            self.place(session, self.held[i].copy())
        else:
            other = int(self.rng.integers(len(self.sessions)))
            self.sessions[other].load(path)
            self.held[other] = self.held[i].copy()
        self.counts["reload"] += 1

    def place(self, session: Session, held: list[int]) -> None:
        if len(self.sessions) < 4:
            self.sessions.append(session)
            self.held.append(held)
        else:
            at = int(self.rng.integers(4))
            self.sessions[at].close()
            self.sessions[at], self.held[at] = session, held

    def pick(self) -> int:
        return int(self.rng.choice(self.lengths))

    def compare(self) -> None:
        """One cold run serves all that was found for the beginnings of its tokens."""
        self.found.sort(key=lambda item: len(item[0]))
        while self.found:
            longest = self.found[-1][0]
            with self.engine.new_session() as session:
                cold = session.forward(longest, "all")
            served = [item for item in self.found if item[0] == longest[: len(item[0])]]
            self.found = [item for item in self.found if item[0] != longest[: len(item[0])]]
            for ids, logits in served:
                self.compare_rows(logits, cold[len(ids) - len(logits) : len(ids)])

    def compare_rows(self, found: Any, expected: Any) -> None:
        self.counts["rows"] += len(found)
        if self.exact:
            assert np.array_equal(found, expected)
            return
        for row in np.flatnonzero(found.argmax(1) != expected.argmax(1)):
            second, first = np.sort(expected[row])[-2:]
            assert first - second < NEAR_TIE * np.abs(expected[row]).max(), "another token, and no near-tie"
            self.counts["near-ties"] += 1


def lengths_around(window: int) -> list[int]:
    """Single tokens, a few, and what lies around a window."""
    return [1, 1, 1, 2, 5, 13, *(n for n in (window - 1, window, window + 1, 2 * window + 3) if n > 0)]


def run_traces(
    engine: Engine, count: int, lengths: list[int], folder: Path, exact: bool = False, first: int = 0
) -> Any:
    """``count`` traces with the seeds from ``first`` on; returns what happened in them."""
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        trace = Trace(engine, seed, lengths, folder, exact)
        try:
            trace.run(steps=int(trace.rng.integers(6, 20)))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        counts += trace.counts
    return counts
