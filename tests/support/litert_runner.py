"""A ``.tflite`` file driven as LiteRT-LM drives it: prompts in padded calls of ``prefill_N``, then ``decode``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

MASKED = np.float32(-0.7 * np.finfo(np.float32).max)  # LiteRT-LM's own; not the graph's


class LitertRunner:
    """One sequence."""

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self.signatures: list[str] = sorted(self._interpreter.get_signature_list())
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in self.signatures}
        self.details = {name: runner.get_input_details() for name, runner in self._runners.items()}
        self.sizes = sorted(int(name.removeprefix("prefill_")) for name in self.signatures if name != "decode")
        self.length = 0
        self.caches: dict[str, Any] = {
            name: np.zeros(detail["shape"], np.float32)
            for name, detail in self.details["decode"].items()
            if name.startswith("kv_cache")
        }

    def prefill(self, ids: npt.NDArray[Any], size: int) -> None:
        """Up to ``size`` tokens in one call of ``prefill_<size>``."""
        self._call(f"prefill_{size}", ids, size)

    def decode(self, token: int) -> npt.NDArray[np.float32]:
        """Logits (vocab,) after one token."""
        return np.array(self._call("decode", np.array([token]), 1)["logits"][0, 0])

    def run(self, ids: npt.NDArray[Any], decoded: int) -> npt.NDArray[np.float32]:
        """Prefill all but the last ``decoded`` tokens, in calls as LiteRT-LM cuts them; logits of the last ones."""
        rest = ids[: len(ids) - decoded]
        while len(rest):
            fitting = [n for n in self.sizes if n >= len(rest)]
            size = fitting[0] if fitting else self.sizes[-1]
            self.prefill(rest[:size], size)
            rest = rest[size:]
        return np.array([self.decode(int(token)) for token in ids[len(ids) - decoded :]])

    def _call(self, name: str, ids: npt.NDArray[Any], size: int) -> dict[str, Any]:
        count, context = len(ids), int(self.details[name]["mask"]["shape"][-1])
        tokens, positions = np.zeros((1, size), np.int32), np.zeros(size, np.int32)
        mask = np.full((1, 1, size, context), MASKED)
        tokens[0, :count], positions[:count] = ids, np.arange(self.length, self.length + count)
        mask[0, 0, :count][np.arange(context) <= positions[:count, None]] = 0
        results = self._runners[name](tokens=tokens, input_pos=positions, mask=mask, **self.caches)
        self.caches = {key: results[key] for key in self.caches}
        self.length += count
        return dict(results)
