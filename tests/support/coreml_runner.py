"""A Core ML package driven by the interpreter as its callers drive it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.engines.coreml_interpreter.interpreter import Interpreter

STYLES = ("python", "swift")


class CoremlRunner:
    """One package and one sequence in it; :meth:`restart` begins another one.

    "python" gives masks as Hugging Face's Python code does: a column for each token so far, -inf above the diagonal of
    the first call. "swift" gives them as swift-transformers does: one row of zeros with a column more.
    """

    def __init__(self, folder: Path, style: str = "python") -> None:
        self.interpreter = Interpreter.open(folder)
        self._swift = {"python": False, "swift": True}[style]
        self.restart()

    def restart(self) -> None:
        """New states, as ``make_state()`` gives them."""
        self.states = self.interpreter.new_states()
        self.length = 0

    def forward(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Logits (len(ids), vocab) after each token."""
        count, total = len(ids), self.length + len(ids)
        if self._swift:
            mask = np.zeros((1, 1, 1, total + 1), np.float16)
        else:
            mask = np.triu(np.full((1, 1, count, total), 0 if self.length else -np.inf), 1).astype(np.float16)
        inputs = {"inputIds": np.asarray(ids, np.int32)[None], "causalMask": mask}
        outputs, self.states = self.interpreter.run(inputs, self.states)
        self.length = total
        return outputs["logits"][0].astype(np.float32)

    def run(self, ids: npt.NDArray[Any], *cuts: int) -> npt.NDArray[np.float32]:
        """Logits of all tokens, given in pieces."""
        return np.concatenate([self.forward(piece) for piece in np.split(np.asarray(ids), cuts)])
