"""Every family as a Core ML package: what transformers computed, token by token and past every window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coreml_runner import CoremlRunner
from golden_files import golden
from tiny_decoders import relative_error
from tiny_models import CASES, FAMILIES, write_checkpoint

from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options

PROMPT_TOKENS = 24  # of a golden; the others were chosen greedily by transformers
# Per family the golden with the most that is not plain: windows, ropes, norms, caps, biases, tied tables.
GOLDENS = (
    "exaone4", "llama-llama3", "qwen2-layer-types", "phi3-long-5", "gemma2-5", "gemma3_text-5", "granite-tied-bias",
    "smollm3-layer-types", "qwen3-bias-window", "mistral", "ministral", "ministral3-window", "olmo2-bias", "olmo3-5",
)  # fmt: skip


def package(case: str, folder: Path, options: Options) -> Path:
    checkpoint = write_checkpoint(folder / "checkpoint", CASES[case])
    convert(checkpoint, folder / "bundle", to=["coreml"], options=options, check=False)
    return folder / "bundle" / "model.mlpackage"


def test_every_family_is_here() -> None:
    assert sorted(CASES[case]["model_type"] for case in GOLDENS) == sorted(FAMILIES)


@pytest.mark.parametrize("case", GOLDENS)
def test_tokens_equal_transformers(case: str, tmp_path: Path) -> None:
    folder, (ids, expected) = package(case, tmp_path, Options("none")), golden(case)
    cold = CoremlRunner(folder, "python").run(ids)
    steps = CoremlRunner(folder, "swift").run(ids, PROMPT_TOKENS, *range(PROMPT_TOKENS + 1, len(ids)))
    for logits in (cold, steps):
        assert relative_error(logits, expected) < 1e-4  # measured: at most 1e-5
    assert len(ids) - PROMPT_TOKENS >= 32
    assert np.array_equal(steps[PROMPT_TOKENS - 1 : -1].argmax(axis=1), ids[PROMPT_TOKENS:])


@pytest.mark.parametrize("case", ["gemma2-5", "olmo3-5", "phi3-long-5"])
def test_half_precision_stays_near_transformers(case: str, tmp_path: Path) -> None:
    folder, (ids, expected) = package(case, tmp_path, Options("fp16")), golden(case)
    error = relative_error(CoremlRunner(folder).run(ids, 5, 6, 30), expected)
    print(f"{case}: {error:.1e}")
    assert 1e-5 < error < 0.02
