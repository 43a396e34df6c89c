"""Make the goldens: logits of transformers on the tiny models. Needs torch and transformers, once.

    python tests/goldens/make_goldens.py [CASE …]

Each ``<case>.npz`` holds ``ids`` (prompt, then the greedy tokens) and ``logits`` (one row per id) in float32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tiny_models import CASES, write_checkpoint
from transformers import AutoModelForCausalLM

PROMPT_TOKENS, STEPS = 24, 32


def make_golden(case: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids (PROMPT_TOKENS + STEPS,) and their logits, by one prefill and single steps over HF's cache."""
    write_checkpoint(folder, CASES[case])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = np.random.RandomState(7).randint(4, CASES[case]["vocab_size"], PROMPT_TOKENS).tolist()
    rows, cache, feed = [], None, ids
    with torch.no_grad():
        for _ in range(STEPS + 1):
            out = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
            rows.append(out.logits[0].numpy())
            cache, feed = out.past_key_values, [int(rows[-1][-1].argmax())]
            ids = ids + feed
        whole = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].numpy()
    logits = np.concatenate(rows)
    np.testing.assert_allclose(logits, whole, atol=1e-4 * np.abs(whole).max())  # the cache changed nothing
    return np.array(ids[:-1], np.int32), logits


def main() -> None:
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            ids, logits = make_golden(case, Path(folder))
        np.savez_compressed(Path(__file__).parent / f"{case}.npz", ids=ids, logits=logits)
        distinct = len(set(ids.tolist()))
        print(f"{case}: {len(ids)} ids, {distinct} distinct, max |logit| {np.abs(logits).max():.2f}")


if __name__ == "__main__":
    main()
