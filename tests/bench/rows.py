"""What several rows at once cost of one.

    python tests/bench/rows.py BUNDLE [--engine native] [--threads 1 2] [--rows 1 2 4 8 16] [--depth 64]

Rows of a session each (``forward_together``), and of one session (as of a prompt). Numbers of rows take turns in each
repeat; shown are milliseconds of the median step, its ratio to the first number of rows, and tokens per second.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session import Session, forward_together

STEPS = 4  # of one repeat


class Bench:
    """Sessions at one depth, gone on from there again and again."""

    def __init__(self, engine: Engine, rows: int, depth: int) -> None:
        self.rng = np.random.default_rng(0)
        self.vocab, self.depth = engine.spec.vocab_size, depth
        origin = engine.new_session()
        origin.forward(self.ids(depth))
        self.sessions = [origin, *(origin.fork() for _ in range(rows - 1))]

    def ids(self, count: int) -> list[int]:
        return [int(i) for i in self.rng.integers(0, self.vocab, count)]

    def together(self, rows: int) -> float:
        """Seconds of a step of ``rows`` sessions."""
        used = self.sessions[:rows]
        times = [timed(used, [[i] for i in self.ids(rows)]) for _ in range(STEPS)]
        self.rewind(used)
        return median(times)

    def prompt(self, rows: int) -> float:
        """Seconds of ``rows`` tokens of one session."""
        times = []
        for _ in range(STEPS):
            times.append(timed(self.sessions[:1], [self.ids(rows)]))
            self.rewind(self.sessions[:1])
        return median(times)

    def rewind(self, sessions: list[Session]) -> None:
        for session in sessions:
            session.truncate(self.depth)


def timed(sessions: list[Session], ids: list[list[int]]) -> float:
    start = perf_counter()
    forward_together(sessions, ids)
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    for threads in args.threads:
        bench = Bench(open_engine(Bundle.open(args.bundle), args.engine, threads), max(args.rows), args.depth)
        for name, run in (("sessions", bench.together), ("prompt", bench.prompt)):
            run(max(args.rows))
            found = [[run(rows) for rows in args.rows] for _ in range(args.repeat)]
            costs = [median(column) for column in zip(*found, strict=True)]
            for rows, cost in zip(args.rows, costs, strict=True):
                shown = f"{1e3 * cost:9.3f} ms  x {cost / costs[0]:5.2f}  {rows / cost:8.0f} tok/s"
                print(f"{name:8} threads {threads} rows {rows:3} {shown}", flush=True)


if __name__ == "__main__":
    main()
