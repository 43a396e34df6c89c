"""What an engine provides: a loaded model, and one sequence's cache. The session in session.py does the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from edgeslm.lazy_numpy import np
from edgeslm.spec import DecoderSpec

if TYPE_CHECKING:
    from array import array
    from typing import Any

    import numpy.typing as npt

    from edgeslm.engines.session import Session

Rows = Literal["last", "all"]
Ids: TypeAlias = "npt.NDArray[np.int32]"
Logits: TypeAlias = "npt.NDArray[np.float32]"
TokenIds: TypeAlias = "Sequence[int] | npt.NDArray[np.integer]"
Arrays: TypeAlias = "dict[str, npt.NDArray[Any]]"


class Cache(Protocol):
    """What an engine keeps of one sequence. Only a session calls it: with sound arguments, one call at a time."""

    def forward(self, ids: npt.NDArray[np.int32], start: int, rows: Rows) -> Logits:
        """Append ids behind the first ``start`` tokens; logits (1, vocab) of the last or (len(ids), vocab) of all.

        ``start`` is what the session holds; the cache may hold more, left by a run that was interrupted.

        Raises:
            CancelledError: :meth:`cancel` asked for it.
            EngineError: anything else went wrong.
        """

    def rewindable_to(self, length: int) -> int:
        """The smallest length above 0 to which a cache that holds ``length`` tokens can be cut exactly.

        More than ``length`` if a run that failed has overwritten rows that going on from there needs; 0 is always
        possible.
        """

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens: 0, or as many as :meth:`rewindable_to` allows."""

    def fork(self) -> Cache:
        """An independent copy; memory may be shared until one of the two writes to it."""

    def export(self, length: int) -> Arrays:
        """Its state as arrays, rows in the order of positions: what going on exactly behind ``length`` tokens needs."""

    def restore(self, arrays: Arrays, length: int) -> None:
        """Into a new cache, the opposite of :meth:`export`. The arrays come from a stranger: they are checked here.

        Raises:
            SessionFileError: one is missing, too many, misshapen, of another type, or not finite.
        """

    def cancel(self, on: bool) -> None:
        """While on, ``forward`` raises CancelledError as soon as it can, also one under way in another thread.

        Called at any time from any thread; never waits, and may do nothing where the engine cannot stop.
        """

    def close(self) -> None:
        """Free it; further calls raise EngineError."""


class Engine(Protocol):
    """A loaded model. Sessions share its weights; it may be used from several threads, a session each."""

    @property
    def name(self) -> str:
        """ "native", "onnxruntime", "reference", …"""

    @property
    def spec(self) -> DecoderSpec:
        """The decoder it runs."""

    @property
    def fingerprint(self) -> str:
        """Of the bundle and the target that it was opened on (``Bundle.fingerprint``); "" without a bundle."""

    @property
    def kv_type(self) -> str:
        """How caches keep keys and values: "f32", "f16" or "int8"."""

    @property
    def step_bytes(self) -> int | None:
        """Of the weights that one token's step reads; None where the engine does not tell."""

    @property
    def isa(self) -> str:
        """Instruction set in use, or "" where the engine does not tell."""

    @property
    def threads(self) -> int:
        """Threads it computes with."""

    def new_session(self) -> Session:
        """An empty session."""

    def forward_together(self, caches: Sequence[Cache], ids: Sequence[Ids], starts: Sequence[int]) -> Logits:
        """``cache.forward(ids, start, "last")`` for different caches at once; logits (len(caches), vocab).

        Where it fails, it leaves each cache as a failed ``forward`` would.
        """

    def close(self) -> None:
        """Free the model; sessions become unusable."""


class GreedyBatch(Protocol):
    """Several prompts that are continued at once, each by its likeliest tokens; one thread at a time may use it."""

    def __len__(self) -> int:
        """Prompts under way."""

    def start(self, key: int, prompt: array[int], limit: int, fresh: bool) -> None:
        """Take a prompt in; its answer has at most ``limit`` tokens and, if fresh, no three of them twice."""

    def run(self, wanted: int) -> list[tuple[int, list[int], bool, float]]:
        """Go on until ``wanted`` answers have come to an end, or all.

        Of each its key, its tokens, whether one of the ends came, and the logarithm of its probability, with its end.
        An answer that runs in circles comes to an end, too. After an error nothing is under way.
        """


@runtime_checkable
class GreedyEngine(Protocol):
    """An engine that takes the likeliest tokens itself, with no Python between two of them."""

    def greedy(self, slots: int, ends: Collection[int]) -> GreedyBatch:
        """Room for so many prompts at once, 1..256; ``ends`` are the tokens that end an answer."""


def one_by_one(caches: Sequence[Cache], ids: Sequence[Ids], starts: Sequence[int]) -> Logits:
    """:meth:`Engine.forward_together` of engines that run one cache at a time."""
    runs = zip(caches, ids, starts, strict=True)
    return np.concatenate([cache.forward(tokens, start, "last") for cache, tokens, start in runs])
