"""Greedy generation by LiteRT-LM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def import_litert_lm() -> Any:
    """The package; where it is not installed the test skips, but fails in CI."""
    if os.environ.get("CI") == "true":
        import litert_lm
    else:
        litert_lm = pytest.importorskip("litert_lm")
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    return litert_lm


class LitertLm:
    """An opened ``.litertlm`` file."""

    def __init__(self, path: Path, cache: Path) -> None:
        self._module = import_litert_lm()
        backend = self._module.Backend.CPU(thread_count=1)
        self.engine = self._module.Engine(str(path), backend=backend, cache_dir=str(cache))

    def sampler(self) -> Any:
        """Greedy."""
        return self._module.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0)

    def texts(self, turns: list[str], count: int) -> list[str]:
        """For each turn at most ``count`` tokens after it, as text, in one session."""
        texts = []
        with self.engine.create_session(
            apply_prompt_template=False, max_output_tokens=count, sampler_config=self.sampler()
        ) as session:
            for turn in turns:
                session.run_prefill([turn])
                texts.append(session.run_decode().texts[0])
        return texts
