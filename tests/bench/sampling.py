"""Time one sampled token: python tests/bench/sampling.py [--vocab 152064]

Milliseconds per token, the median of many, over rows of logits like a language model's: a few likely tokens before a
wide field; another row each time. The last column is NumPy's argmax of the same rows.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import numpy as np

from edgeslm.generation._sampling import Sampler

SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {},
    "temperature": {"temperature": 1.0},
    "top-k 40": {"temperature": 1.0, "top_k": 40},
    "top-k 40, top-p 0.95, min-p 0.05": {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "top-p 0.95": {"temperature": 1.0, "top_p": 0.95},
    "min-p 0.05": {"temperature": 1.0, "min_p": 0.05},
    "repetition penalty, top-k 40": {"temperature": 1.0, "top_k": 40, "repetition_penalty": 1.1},
}


def rows_of(vocab: int) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(8):
        row = (2 * rng.standard_normal(vocab)).astype(np.float32)
        row[rng.integers(0, vocab, 50)] += np.linspace(4, 14, 50, dtype=np.float32)
        rows.append(row)
    return rows


def main() -> None:
    """Print a line for each of the settings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vocab", type=int, default=152_064)
    parser.add_argument("--repeat", type=int, default=400)
    arguments = parser.parse_args()
    rows = rows_of(arguments.vocab)
    for name, options in SETTINGS.items():
        sampler = Sampler(arguments.vocab, prompt=range(500), seed=1, **options)  # type: ignore[arg-type]
        ours, numpys = [], []
        for i in range(arguments.repeat):
            row = rows[i % len(rows)]
            start = perf_counter()
            sampler.sample(row)
            middle = perf_counter()
            row.argmax()
            ours.append(middle - start)
            numpys.append(perf_counter() - middle)
        print(f"{name:36}{1000 * median(ours):8.3f} ms   argmax {1000 * median(numpys):.3f} ms")


if __name__ == "__main__":
    main()
