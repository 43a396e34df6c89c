"""The committed goldens: what Hugging Face transformers computed on the tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens"


def golden(case: str) -> tuple[Any, Any]:
    """Token ids (prompt, then the greedy ones) and their logits, one row per id."""
    with np.load(GOLDENS / f"{case}.npz", allow_pickle=False) as file:
        return file["ids"], file["logits"]
