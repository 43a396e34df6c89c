"""What every engine offers: token ids in, logits out. Generation sees nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgeslm.spec import DecoderSpec

Rows = Literal["last", "all"]
Logits = npt.NDArray[np.float32]
TokenIds = Sequence[int] | npt.NDArray[np.integer]


class Session(Protocol):
    """One sequence and its cache. Not shared between threads at the same time."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        """Append ids and return logits: (1, vocab) of the last, or (len(ids), vocab) of all.

        Raises:
            ContextLengthError: more tokens than the context holds; the session is unchanged.
            ArgumentError: no ids, or an id outside the vocabulary; the session is unchanged.
        """

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens.

        Raises:
            ArgumentError: ``length`` is negative or beyond the session's length.
            RewindError: the rows needed are no longer held.
        """

    def close(self) -> None:
        """Free the cache; further calls raise EngineError."""


class Engine(Protocol):
    """A loaded model. Sessions share its weights; it may be used from several threads, a session each."""

    @property
    def name(self) -> str:
        """ "native", "onnxruntime", "reference", …"""

    @property
    def spec(self) -> DecoderSpec:
        """The decoder it runs."""

    @property
    def isa(self) -> str:
        """Instruction set in use, or "" where the engine does not tell."""

    @property
    def threads(self) -> int:
        """Threads it computes with."""

    def new_session(self) -> Session:
        """An empty session."""

    def close(self) -> None:
        """Free the model; sessions become unusable."""
