"""The oracle against Hugging Face transformers: logits of tiny models, over a prefill and 32 greedy steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_files import GOLDENS, golden
from tiny_models import CASES, write_checkpoint

from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.engines.reference import ReferenceEngine

PROMPT_TOKENS, STEPS = 24, 32
TOLERANCE = 1e-5  # of max |logit|; measured: at most 4e-6


@pytest.mark.parametrize("case", CASES)
def test_prefill_and_greedy_steps_equal_transformers(case: str, tmp_path: Path) -> None:
    ids, expected = golden(case)
    checkpoint = open_checkpoint(write_checkpoint(tmp_path, CASES[case]))
    session = ReferenceEngine(checkpoint.spec, checkpoint.weights).new_session()
    rows, feed = [session.forward(ids[:PROMPT_TOKENS], "all")], ids[:PROMPT_TOKENS]
    for _ in range(STEPS):
        feed = [int(rows[-1][-1].argmax())]
        rows.append(session.forward(feed))
    logits = np.concatenate(rows)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{case}: error {error:.1e} of max |logit|")
    assert logits.shape == expected.shape
    assert error <= TOLERANCE
    assert logits[PROMPT_TOKENS - 1 : -1].argmax(1).tolist() == ids[PROMPT_TOKENS:].tolist()


def test_every_golden_has_its_case() -> None:
    assert {path.stem for path in GOLDENS.glob("*.npz")} == set(CASES)


def test_both_config_styles_describe_one_decoder(tmp_path: Path) -> None:
    four = open_checkpoint(write_checkpoint(tmp_path / "4", CASES["llama"])).spec
    assert four == open_checkpoint(write_checkpoint(tmp_path / "5", CASES["llama-5"])).spec
