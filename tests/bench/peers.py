"""The native engine beside other runtimes: one random-weight model for all, in one run, on this machine.

    python tests/bench/peers.py FOLDER --setup      installs the environments, below FOLDER/environments
    python tests/bench/peers.py FOLDER              makes the models that are absent, and prints the tables
    python tests/bench/peers.py FOLDER --shape llama-3.2-1b --only edgeslm,llama.cpp --depth 100,8000 --json

Contestants of the same bits run side by side, each in a process of its own (peer/worker.py), with the same threads and
token counts. Repeats are interleaved: each round asks every one once, and the first round goes unmeasured. Figures are
medians; "(× 1.30)" says how many times as fast the best of our rows is. "weights read" is the rate at which decoding
reads weights, as a share of the read bandwidth that edgeslm measures in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peer.contestants import CONTESTANTS, SHAPES, Arena, Contestant, Worker, file_bytes

from edgeslm.bandwidth import read_bandwidth
from edgeslm.engines.native import DEFAULT_KV_DTYPE, KV_FORMATS
from edgeslm.engines.threads import usable_cpus

FIRST_PROMPT = 8  # tokens, of a fresh process


@dataclass(frozen=True)
class Plan:
    """What is asked of every contestant."""

    threads: int
    prompt: int
    new: int
    depths: list[int]
    kv_dtype: str
    repeat: int

    @property
    def context(self) -> int:
        return max(self.prompt, max(self.depths) + self.new) + 64


@dataclass
class Row:
    """One contestant's measurements: of each round, tokens per second, or seconds of a fresh process."""

    contestant: Contestant
    weight_bytes: int = 0  # that a step reads
    bits_per_weight: float = 0
    peak_rss_bytes: int = 0  # after all of it
    anon_bytes: int = 0
    prefill: list[float] = field(default_factory=list)
    decode: dict[int, list[float]] = field(default_factory=dict)  # by depth
    first_token: list[float] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)  # what follows greedily behind each depth


Entry = tuple[Row, Worker]
Around = Callable[[list[Worker]], AbstractContextManager[object]]


def nothing(workers: list[Worker]) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass
class Match:
    """Contestants side by side, each with its open process."""

    arena: Arena
    plan: Plan
    entries: list[Entry]
    around: Around
    bandwidth: list[float] = field(default_factory=list)  # of each round

    def rounds(
        self, entries: list[Entry], ask: Callable[[Row, Worker], float], kept: Callable[[Row], list[float]]
    ) -> None:
        """Ask each one once a round; the first round goes unmeasured."""
        for number in range(1 + self.plan.repeat):
            with self.around([worker for _, worker in entries]):
                found = []
                bandwidth = read_bandwidth(self.plan.threads)
                for row, worker in entries:
                    found.append(ask(row, worker))
                    time.sleep(0.05)  # until its threads have stopped looking for work
            if number:
                self.bandwidth.append(bandwidth)
                for (row, _), value in zip(entries, found, strict=True):
                    kept(row).append(value)

    def prefill(self) -> None:
        tokens = self.plan.prompt
        self.rounds(
            self.entries,
            lambda _, worker: tokens / worker.seconds("prefill", tokens=tokens),
            lambda row: row.prefill,
        )

    def decode(self, depth: int) -> None:
        """Behind the first depth all of them; behind others those that keep a cache."""
        new = self.plan.new
        entries = [(r, w) for r, w in self.entries if r.contestant.deep or depth == self.plan.depths[0]]
        for row, worker in entries:
            row.tokens[depth] = worker.ask(do="decode", depth=depth, tokens=1)["token"]  # fills its cache
        self.rounds(
            entries,
            lambda _, worker: new / worker.seconds("decode", depth=depth, tokens=new),
            lambda row: row.decode.setdefault(depth, []),
        )

    def first_token(self) -> None:
        """From the start of a fresh process, its files cached by the system, to the first token of a short prompt."""

        def ask(row: Row, _: Worker) -> float:
            start = time.perf_counter()
            with self.arena.open(row.contestant, self.plan.threads, FIRST_PROMPT + 64) as fresh:
                fresh.seconds("prefill", tokens=FIRST_PROMPT)
                return time.perf_counter() - start

        self.rounds(self.entries, ask, lambda row: row.first_token)

    def sizes(self) -> None:
        parameters = file_bytes(self.arena.model("hf")) / 2  # float16, the tied head stored once
        for row, worker in self.entries:
            size = worker.ask(do="size")
            row.weight_bytes = size["step_bytes"] or file_bytes(self.arena.model(row.contestant.model))
            row.bits_per_weight = 8 * row.weight_bytes / parameters
            row.peak_rss_bytes, row.anon_bytes = size["peak_rss_bytes"], size["anon_bytes"]


def measure(arena: Arena, contestants: Sequence[Contestant], plan: Plan, around: Around = nothing) -> Match:
    """All that the plan asks for, of contestants that run side by side.

    Args:
        around: entered around each round, with its processes.
    """
    with ExitStack() as stack:
        opened = [(Row(c), stack.enter_context(arena.open(c, plan.threads, plan.context))) for c in contestants]
        match = Match(arena, plan, opened, around)
        match.prefill()
        for depth in plan.depths:
            match.decode(depth)
        match.sizes()
        match.first_token()
    return match


@dataclass(frozen=True)
class Column:
    """Figures of a row; higher is better, or lower."""

    name: str
    values: Callable[[Row], list[float]]
    digits: int = 1
    higher: bool = True

    def cell(self, row: Row, rows: list[Row]) -> str:
        """The median; a peer's with how many times as good the best of ours is."""
        if not self.values(row):
            return "–"
        median = statistics.median(self.values(row))
        shown = f"{median:.{self.digits}f}"
        ours = [statistics.median(self.values(r)) for r in rows if r.contestant.runtime == "edgeslm"]
        if row.contestant.runtime == "edgeslm" or not ours:
            return shown
        return f"{shown} (× {max(ours) / median if self.higher else median / min(ours):.2f})"


def table(match: Match) -> Iterator[str]:
    """Markdown."""
    rows, plan, speed = [row for row, _ in match.entries], match.plan, statistics.median(match.bandwidth)
    columns = [Column(f"prefill {plan.prompt}, tok/s", lambda row: row.prefill)]
    for depth in plan.depths:
        columns.append(Column(f"decode at {depth}, tok/s", lambda row, depth=depth: row.decode.get(depth, [])))
    columns.append(Column("start to first token, s", lambda row: row.first_token, digits=2, higher=False))
    heads = ["", "bits per weight", *(column.name for column in columns), "weights read", "peak memory", "anonymous"]
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for row in rows:
        share = statistics.median(row.decode[plan.depths[0]]) * row.weight_bytes / speed
        memory = (f"{size / 1e6:.0f} MB" for size in (row.peak_rss_bytes, row.anon_bytes))
        cells = [f"{row.contestant.runtime} {row.contestant.form}", f"{row.bits_per_weight:.2f}"]
        cells += [*(column.cell(row, rows) for column in columns), f"{100 * share:.0f} %", *memory]
        yield f"| {' | '.join(cells)} |"


def agreement(match: Match) -> str:
    """Whether contestants compute the same: those of one file should; other roundings of weights may lead elsewhere."""
    depth = match.plan.depths[0]
    named: dict[int, list[str]] = {}
    for row, _ in match.entries:
        named.setdefault(row.tokens[depth], []).append(f"{row.contestant.runtime} {row.contestant.model}")
    told = "; ".join(f"{token} ({', '.join(names)})" for token, names in named.items())
    return f"The likeliest token behind {depth} others: {told}"


def machine() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{found[0] if found else platform.processor()}, {os.cpu_count()} CPUs, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for environments and models (some GB)")
    parser.add_argument("--setup", action="store_true", help="install the environments, and do nothing else")
    parser.add_argument("--shape", choices=SHAPES, default=SHAPES[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=_names, default=sorted({c.runtime for c in CONTESTANTS}), help="runtimes")
    parser.add_argument("--bits", type=int, choices=(4, 8), nargs="+", default=[4, 8])
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("-p", "--prompt", type=int, default=256)
    parser.add_argument("-n", "--new", type=int, default=32)
    parser.add_argument("--depth", type=_counts, default=[100], help="such as 100,4000,8000")
    parser.add_argument("--kv-dtype", choices=KV_FORMATS, default=DEFAULT_KV_DTYPE, help="of our keys and values")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    arena = Arena(args.folder, args.shape, args.seed, args.kv_dtype)
    if args.setup:
        arena.set_up()
        return
    plan = Plan(args.threads, args.prompt, args.new, args.depth, args.kv_dtype, args.repeat)
    matches = [
        measure(arena, [c for c in CONTESTANTS if c.bits == bits and c.runtime in args.only], plan)
        for bits in args.bits
    ]
    if args.json:
        print(json.dumps([to_json(match, args.shape) for match in matches], indent=1))
        return
    for match in matches:
        print(f"\n{args.shape}, {plan.threads} threads, our keys and values {plan.kv_dtype}, {describe(match)}\n")
        print("\n".join(table(match)))
        print(f"\n{agreement(match)}")


def describe(match: Match) -> str:
    return f"{machine()}, read bandwidth {statistics.median(match.bandwidth) / 1e9:.1f} GB/s"


def to_json(match: Match, shape: str) -> dict[str, Any]:
    """Every figure of every round."""
    return {
        "machine": machine(),
        "shape": shape,
        "plan": asdict(match.plan),
        "read_bandwidth": match.bandwidth,
        "rows": [asdict(row) for row, _ in match.entries],
    }


def _names(text: str) -> list[str]:
    return text.split(",")


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
