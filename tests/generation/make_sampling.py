"""Make sampling.npz: what transformers' logits warpers make of random logits (needs torch and transformers).

    python tests/generation/make_sampling.py

logits (20, 40) float32; settings (8, 3): temperature, top_k (0: off), top_p (1: off); probabilities (8, 20, 40).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers.generation import logits_process as warpers

SETTINGS = [
    *[(1.0, 0, 1.0), (0.5, 0, 1.0), (3.0, 7, 1.0), (1.0, 0, 0.8)],
    *[(1.5, 12, 0.7), (1.0, 1, 1.0), (1.0, 0, 0.0), (1.0, 1000, 1.0)],
]


def main() -> None:
    """Write the file beside this script."""
    logits = (2 * np.random.RandomState(0).standard_normal((20, 40))).astype(np.float32)
    probabilities = []
    for temperature, top_k, top_p in SETTINGS:
        scores = warpers.TemperatureLogitsWarper(temperature)(None, torch.tensor(logits).double())
        if top_k:
            scores = warpers.TopKLogitsWarper(top_k)(None, scores)
        if top_p < 1:
            scores = warpers.TopPLogitsWarper(top_p)(None, scores)
        probabilities.append(scores.softmax(-1).numpy())
    path = Path(__file__).with_name("sampling.npz")
    np.savez_compressed(path, logits=logits, settings=np.array(SETTINGS), probabilities=np.array(probabilities))


if __name__ == "__main__":
    main()
