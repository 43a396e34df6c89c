"""Greedy generation by onnxruntime-genai."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def import_genai() -> Any:
    """The package; where it is not installed the test skips, but fails in CI."""
    if os.environ.get("CI") == "true":
        import onnxruntime_genai
    else:
        onnxruntime_genai = pytest.importorskip("onnxruntime_genai")
    return onnxruntime_genai


def genai_ids(genai: Any, folder: Path, prompt: list[int], count: int) -> list[int]:
    """At most ``count`` ids after ``prompt``, without the one that ended the text."""
    model = genai.Model(str(folder))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + count, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(i) for i in generator.get_sequence(0)][len(prompt) :]
