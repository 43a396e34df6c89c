"""How fast and how large: prefill and decode of one engine on one bundle, with the process's memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edgeslm.bandwidth import read_bandwidth
from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session import Session
from edgeslm.generation.loop import new_token_limit
from edgeslm.memory import cache_bytes, process_memory
from edgeslm.meter import Meter, Usage, add_usage

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """What is measured: each part by itself, behind ``depth`` tokens that the cache holds already."""

    prompt: int = 256  # tokens of the prefill
    new: int = 64  # decode steps
    depth: int = 0

    @property
    def positions(self) -> int:
        """That the context must have; a step that nobody measures goes before the decode steps."""
        return self.depth + max(self.prompt, self.new + 1)


@dataclass(frozen=True)
class Benchmark:
    """Medians over the repeats. Load time, memory and bandwidth are the whole process's: the same for all its cases."""

    engine: str
    isa: str
    threads: int
    kv_dtype: str
    prompt: int
    new: int
    depth: int
    prefill_tok_s: float
    prefill_range: tuple[float, float]  # the slowest and the fastest repeat
    decode_tok_s: float
    decode_range: tuple[float, float]
    first_token_s: float  # a session, the prompt, and the first token chosen
    load_s: float  # bundle and engine opened
    kv_bytes: int | None  # keys and values behind the last token; None: a kind of cache unknown here
    bytes_per_token: int | None  # weights that a decode step reads, and keys and values (halfway through the steps)
    read_bandwidth: float  # bytes/s at which as many threads read memory
    roofline_fraction: float | None  # bytes_per_token · decode_tok_s / read_bandwidth
    prefill_tok_j: float | None  # tokens per joule, over all repeats; None: not available
    decode_tok_j: float | None
    energy_source: str  # what was counted, or why nothing was
    celsius: float | None  # the processor's highest temperature
    throttling: list[str] | None  # what slowed the processor down
    peak_rss_bytes: int | None  # None where the system does not tell
    anon_bytes: int | None  # resident memory that is no file's: what a mapped model does not share


def benchmark(
    path: Path,
    engine: str = "auto",
    threads: int | None = None,
    kv_dtype: str | None = None,
    *,
    cases: Sequence[Case] = (Case(),),
    repeat: int = 3,
    force: bool = False,
) -> list[Benchmark]:
    """Measure seeded random prompts and greedy decode steps, ``repeat`` times each behind a run that goes unmeasured.

    Raises:
        ContextLengthError: the tokens of a case do not fit the context.
        MemoryLimitError: the bundle will not fit the memory that there is; with ``force`` it is only a warning.
    """
    start = perf_counter()
    bundle = Bundle.open(path)
    for case in cases:
        new_token_limit(bundle.spec.context_length, case.depth, case.positions - case.depth)
    opened = open_engine(bundle, engine, threads, force, kv_dtype)
    load_s = perf_counter() - start
    try:
        runs = list(_measured(opened, cases, repeat))
        memory = process_memory()  # before the buffer that the bandwidth needs
        bandwidth = read_bandwidth(opened.threads)
        pairs = zip(cases, runs, strict=True)
        return [_result(opened, case, found, load_s, memory, bandwidth) for case, found in pairs]
    finally:
        opened.close()


@dataclass(frozen=True)
class _Run:
    """One repeat: seconds, and what its two parts took."""

    first_token: float
    prefill: float
    decode: float
    usage: tuple[Usage, Usage]


def _measured(engine: Engine, cases: Sequence[Case], repeat: int) -> Iterator[list[_Run]]:
    meter = Meter()
    longest = max(case.positions for case in cases)
    ids = np.random.default_rng(0).integers(0, engine.spec.vocab_size, longest)
    with engine.new_session() as held:
        for case in cases:
            if held.length > case.depth:
                held.truncate(0)
            if held.length < case.depth:
                held.forward(ids[held.length : case.depth])
            following = ids[case.depth : case.depth + case.prompt]
            yield [_run(held, following, case.new, meter) for _ in range(1 + repeat)][1:]


def _run(held: Session, ids: Ids, new: int, meter: Meter) -> _Run:
    """Prefill and decode, each from a copy of what is held."""
    meter.start()
    start = perf_counter()
    with held.fork() as session:
        opened = perf_counter()
        logits = session.forward(ids)
        prefilled = perf_counter()
        token = int(logits[-1].argmax())
        first = perf_counter()
    prefill = meter.stop()
    with held.fork() as session:
        token = int(session.forward([token])[-1].argmax())
        meter.start()
        begun = perf_counter()
        for _ in range(new):
            token = int(session.forward([token])[-1].argmax())
        ended = perf_counter()
        return _Run(first - start, prefilled - opened, ended - begun, (prefill, meter.stop()))


def _result(
    engine: Engine, case: Case, runs: list[_Run], load_s: float, memory: tuple[int | None, int | None], bandwidth: float
) -> Benchmark:
    prefill = [case.prompt / run.prefill for run in runs]
    decode = [case.new / run.decode for run in runs]
    read = _bytes_per_token(engine, case)
    prefills, decodes = (add_usage(part) for part in zip(*(run.usage for run in runs), strict=True))
    both = add_usage([prefills, decodes])
    return Benchmark(
        engine=engine.name,
        isa=engine.isa,
        threads=engine.threads,
        kv_dtype=engine.kv_type,
        prompt=case.prompt,
        new=case.new,
        depth=case.depth,
        prefill_tok_s=statistics.median(prefill),
        prefill_range=(min(prefill), max(prefill)),
        decode_tok_s=statistics.median(decode),
        decode_range=(min(decode), max(decode)),
        first_token_s=statistics.median(run.first_token for run in runs),
        load_s=load_s,
        kv_bytes=cache_bytes(engine.spec, engine.kv_type, case.positions),
        bytes_per_token=read,
        read_bandwidth=bandwidth,
        roofline_fraction=None if read is None else read * statistics.median(decode) / bandwidth,
        prefill_tok_j=prefills.per_joule(case.prompt * len(runs)),
        decode_tok_j=decodes.per_joule(case.new * len(runs)),
        energy_source=both.energy_source,
        celsius=both.celsius,
        throttling=both.throttling,
        peak_rss_bytes=memory[0],
        anon_bytes=memory[1],
    )


def _bytes_per_token(engine: Engine, case: Case) -> int | None:
    cached = cache_bytes(engine.spec, engine.kv_type, case.depth + 1 + (case.new + 1) // 2)
    return None if cached is None or engine.step_bytes is None else engine.step_bytes + cached
