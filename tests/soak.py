"""Does anything grow? Works for as long as asked, then says whether memory, file descriptors and threads stayed flat.

    python tests/soak.py [--minutes 60] [--engine native] [--bundle FOLDER] [--seed 0] [--json]

Short generations, streams cancelled on the way or left, sessions opened, forked, cut back, saved, loaded and closed,
work in several threads, models closed and loaded again. Whatever is generated greedily must be what was at first.
Measured between pieces of work, when only the model is open, after a warm-up of a fifth of the time. Exit status 1
where a line through the bytes in use, or through resident memory, rises by more than its limit in all, or descriptors
or threads end higher than before. In use is what was allocated and not freed, as glibc's allocator counts it: a leak
shows there, and there alone. Resident memory includes what the allocator cannot give back, because small pieces that
live on lie between large ones that are gone: it rises more and more slowly.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

import edgeslm
from edgeslm import embedded
from edgeslm.api import Model
from edgeslm.errors import CancelledError

PROMPTS = (
    "<s><2de> I need new shoes.<sep>",
    "<s><2en> Wo ist der Bahnhof?<sep>",
    "<s><2de> The train is late today.<sep>",
)
LIMITS = {"in_use": 512 << 10, "resident": 4 << 20}  # bytes; caches of the libraries fill up for a while
# Of what is in use, the tokenizers library keeps some kB for each tokenizer that encoded, in a thread that lives on.
LOST_BY_A_RELOAD = 4 << 10
TENTHS = 11  # moments of which the summary tells the bytes
SAMPLE_SECONDS = 0.5
WARM_UP = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")


class Soak:
    """The work; ``counts`` tells what was done."""

    def __init__(self, bundle: Path, engine: str, seed: int, folder: Path) -> None:
        self.bundle, self.engine, self.folder = bundle, engine, folder
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.model = self.load()
        self.expected = {prompt: self.model.generate(prompt, max_new_tokens=12).text for prompt in PROMPTS}
        self.actions = [self.generate] * 6 + [self.sample, self.cancel, self.leave, self.sessions, self.together]

    def load(self) -> Model:
        return edgeslm.load(self.bundle, engine=self.engine, threads=2)

    def step(self) -> None:
        action = self.reload if self.rng.random() < 0.01 else self.rng.choice(self.actions)
        action()
        self.counts[action.__name__] += 1

    def generate(self) -> None:
        self.check(self.rng.choice(PROMPTS))

    def check(self, prompt: str) -> None:
        found = self.model.generate(prompt, max_new_tokens=12).text
        assert found == self.expected[prompt], f"{prompt}: {found!r} instead of {self.expected[prompt]!r}"

    def sample(self) -> None:
        options = {"temperature": 1.5, "top_k": 40, "seed": self.rng.randrange(1 << 30)}
        self.model.generate(self.rng.choice(PROMPTS), max_new_tokens=8, **options)

    def cancel(self) -> None:
        """From another thread, at any moment of the stream."""
        with self.model.stream(self.rng.choice(PROMPTS), max_new_tokens=40, temperature=2.0, seed=1) as pieces:
            timer = threading.Timer(self.rng.uniform(0, 0.01), pieces.cancel)
            timer.start()
            for _ in pieces:
                pass
            timer.join()

    def leave(self) -> None:
        """A stream that is not read to its end."""
        with self.model.stream(self.rng.choice(PROMPTS), max_new_tokens=40) as pieces:
            next(iter(pieces))

    def sessions(self) -> None:
        ids = [self.rng.randrange(3, 500) for _ in range(self.rng.randrange(2, 90))]
        path = self.folder / "session"
        with self.model.session() as session, self.model.session() as other:
            session.forward(ids)
            session.save(path)
            other.load(path)
            with session.fork() as fork:
                fork.truncate(self.rng.randrange(1, len(ids)))
                fork.forward(ids[:3], "all")
            assert np.array_equal(other.forward([5]), session.forward([5])), "a loaded session goes another way"
            session.cancel()
            try:
                session.forward([6])
            except CancelledError:
                self.counts["cancelled passes"] += 1

    def together(self) -> None:
        """Three threads on one model."""
        threads = [threading.Thread(target=self.check, args=(prompt,)) for prompt in PROMPTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def reload(self) -> None:
        self.model.close()
        self.model = self.load()


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h: the fifth size is in mapped areas of their own, the eighth in heaps."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


def bytes_in_use() -> int:
    """Allocated and not freed, small and large; 0 where the C library does not tell. Gives back what is free."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.malloc_trim(ctypes.c_size_t(0))
    library.mallinfo2.restype = MallInfo
    sizes = library.mallinfo2().sizes
    return int(sizes[4] + sizes[7])


def measure() -> tuple[int, int, int, int]:
    """Bytes in use, resident bytes, open file descriptors, threads of this process."""
    in_use = bytes_in_use()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    descriptors, threads = (sum(1 for _ in Path(f"/proc/self/{kind}").iterdir()) for kind in ("fd", "task"))
    return in_use, resident, descriptors, threads


def work(soak: Soak, seconds: float) -> np.ndarray:
    """Rows of seconds and what was measured then, in an array made beforehand: what is measured must not grow by it."""
    rows, count = np.zeros((int(seconds / SAMPLE_SECONDS) + 2, 5)), 0
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds or not count:
        if not count or now - rows[count - 1, 0] >= SAMPLE_SECONDS:
            gc.collect()
            rows[count] = (now, *measure())
            count += 1
        soak.step()
    return rows[:count]


def ends(column: np.ndarray) -> dict[str, int]:
    return {"first": int(column[0]), "last": int(column[-1]), "highest": int(column.max())}


def rise(elapsed: np.ndarray, column: np.ndarray) -> float:
    """Of a line through the column."""
    return float(np.polyfit(elapsed, column, 1)[0] * (elapsed[-1] - elapsed[0])) if len(column) > 2 else 0.0


def summary(soak: Soak, rows: np.ndarray) -> dict[str, object]:
    """What was done, and what each line does after the warm-up."""
    rows = rows[rows[:, 0] >= WARM_UP * rows[-1, 0]]
    elapsed, in_use, resident, descriptors, threads = rows.T
    tenths = np.linspace(0, len(rows) - 1, TENTHS).astype(int)
    found = {
        f"{name}_bytes": {"rise_of_line": round(rise(elapsed, column)), "limit": LIMITS[name], **ends(column)}
        for name, column in (("in_use", in_use), ("resident", resident))
    }
    for values in found.values():
        values["limit"] += LOST_BY_A_RELOAD * soak.counts["reload"]
    flat = all(values["rise_of_line"] <= values["limit"] for values in found.values())
    return {
        "engine": soak.model.engine.name,
        "seconds": round(float(elapsed[-1]), 1),
        "samples": len(rows),
        "done": dict(sorted(soak.counts.items())),
        **found,
        "megabytes_in_use_and_resident": {
            f"{elapsed[i]:.0f} s": f"{in_use[i] / 1e6:.2f} {resident[i] / 1e6:.1f}" for i in tenths
        },
        "descriptors": ends(descriptors),
        "threads": ends(threads),
        "flat": bool(flat and descriptors[-1] <= descriptors[0] and threads[-1] <= threads[0]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--bundle", type=Path, default=embedded.BUNDLE, help="of the embedded translator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(arguments.bundle, arguments.engine, arguments.seed, Path(folder))
        found = summary(soak, work(soak, arguments.minutes * 60))
        soak.model.close()
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            shown = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:15} {shown}")
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
