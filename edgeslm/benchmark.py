"""How fast and how large: prefill and decode of one engine on one bundle, with the process's memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import open_engine
from edgeslm.generation.loop import new_token_limit
from edgeslm.memory import process_memory


@dataclass(frozen=True)
class Benchmark:
    """Medians over the repeats; memory is the whole process's, so measure each engine in a process of its own."""

    prefill_tok_s: float
    decode_tok_s: float
    first_token_s: float  # new session, prompt, and the first token chosen
    load_s: float  # bundle and engine opened
    peak_rss_bytes: int | None  # None where the system does not tell
    anon_bytes: int | None  # resident memory that is no file's: what a mapped model does not share
    engine: str
    isa: str
    threads: int


def benchmark(
    path: Path, engine: str = "auto", threads: int | None = None, *, prompt: int = 256, new: int = 64, repeat: int = 3
) -> Benchmark:
    """Measure ``prompt`` seeded random tokens, then ``new`` greedy decode steps, on a fresh session each time.

    One more run goes first, unmeasured.

    Raises:
        ContextLengthError: ``prompt + new`` tokens do not fit the context.
    """
    start = perf_counter()
    bundle = Bundle.open(path)
    new_token_limit(bundle.spec.context_length, prompt, new)
    opened = open_engine(bundle, engine, threads)
    load_s = perf_counter() - start
    try:
        ids = np.random.default_rng(0).integers(0, bundle.spec.vocab_size, prompt)
        runs = [_run(opened, ids, new) for _ in range(1 + repeat)][1:]
        first, prefill, decode = (statistics.median(column) for column in zip(*runs, strict=True))
        peak, anonymous = process_memory()
        return Benchmark(
            prefill_tok_s=prompt / prefill,
            decode_tok_s=new / decode,
            first_token_s=first,
            load_s=load_s,
            peak_rss_bytes=peak,
            anon_bytes=anonymous,
            engine=opened.name,
            isa=opened.isa,
            threads=opened.threads,
        )
    finally:
        opened.close()


def _run(engine: Engine, ids: npt.NDArray[np.int64], new: int) -> tuple[float, float, float]:
    """Seconds to the first token, of the prefill, and of the decode steps."""
    start = perf_counter()
    session = engine.new_session()
    try:
        opened = perf_counter()
        logits = session.forward(ids)
        prefilled = perf_counter()
        token = int(logits[-1].argmax())
        first = perf_counter()
        for _ in range(new):
            token = int(session.forward([token])[-1].argmax())
        return first - start, prefilled - opened, perf_counter() - first
    finally:
        session.close()
