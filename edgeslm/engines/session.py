"""One sequence on any engine: what callers may rely on, in one place. An engine implements :class:`Cache` alone."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgeslm.engines.checks import check_all_ids, check_ids, check_rows, check_truncate
from edgeslm.engines.protocol import Cache, Engine, Ids, Logits, Rows, TokenIds
from edgeslm.errors import ArgumentError, CancelledError, EngineError, RewindError, SessionFileError
from edgeslm.lazy_numpy import np

if TYPE_CHECKING:
    from edgeslm.engines.session_file import SavedSession

MAX_TOGETHER = 256  # sessions: the native engine's rows of one pass


class Session:
    """Token ids in, logits out, and a memory of what came before.

    Several threads may call it: they take turns; only :meth:`cancel` and the properties never wait. A call that fails
    leaves the session as it was. There is one exception: on a model with sliding windows, a ``forward`` that failed
    underway may have overwritten what going on from here needs. Then calls raise RewindError until ``truncate(0)`` or
    ``load``.
    """

    def __init__(self, engine: Engine, open_cache: Callable[[], Cache]) -> None:
        """An empty session; engines make it (``engine.new_session()``)."""
        self._engine, self._open_cache = engine, open_cache
        self._turn = threading.Lock()
        self._cancelling = threading.RLock()  # reentrant: a signal handler may cancel while this thread holds it
        self._cancelled = self._failed = False
        self._ids = array("i")
        self._cache: Cache | None = open_cache()

    @property
    def length(self) -> int:
        """Tokens held."""
        self._open()
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """The tokens held: int32 (length,), a copy."""
        self._open()
        return np.array(self._ids, np.int32)

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        """Append ids and return logits: (1, vocab) of the last, or (len(ids), vocab) of all.

        Raises:
            ArgumentError: no ids, or an id outside the vocabulary.
            ContextLengthError: more tokens than the context holds.
            CancelledError: see :meth:`cancel`.
            RewindError: an earlier failure has cost what going on needs.
            EngineError: the engine failed, or the session or its model is closed.
        """
        check_rows(rows)
        with self._turn:
            cache = self._sound()
            checked = check_ids(ids, self._engine.spec, len(self._ids))
            if self._cancelled and self._take_cancel(cache):
                raise CancelledError
            try:
                logits = cache.forward(checked, len(self._ids), rows)
            except BaseException as error:
                self._failed = True
                if isinstance(error, CancelledError):
                    self._take_cancel(cache)
                raise
            self._ids.frombytes(checked.tobytes())
            return logits

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens.

        Raises:
            ArgumentError: ``length`` is negative or beyond the session's length.
            RewindError: sliding windows no longer hold what going on from there needs; 0 is always possible.
        """
        with self._turn:
            cache = self._open()
            check_truncate(length, len(self._ids))
            if length:
                _check_rewind(cache, len(self._ids), length)
            del self._ids[
                length:
            ]  # first: where an interrupt falls in between, the cache only holds more than it needs
            cache.truncate(length)

    def fork(self) -> Session:
        """An independent session that holds the same tokens."""
        with self._turn:
            cache = self._sound()
            return self._with(cache.fork(), self._ids[:])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the session to a file, for :meth:`load` on the same engine and bundle; an old file is replaced whole.

        Raises:
            SessionFileError: the file cannot be written.
            RewindError: as for :meth:`forward`.
        """
        from edgeslm.engines.session_file import SavedSession, write_session

        with self._turn:
            cache = self._sound()
            arrays = cache.export(len(self._ids)) if self._ids else {}
            ids = np.array(self._ids, np.int32)
        write_session(Path(path), self._engine, SavedSession(ids, arrays))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the place of the session that was saved; what is held now is forgotten.

        Raises:
            SessionFileError: not a saved session, damaged, or of another bundle, engine or kind of cache. The session
                is unchanged.
        """
        from edgeslm.engines.session_file import read_session

        with self._turn:
            old = self._open()
            saved = read_session(Path(path), self._engine)
            ids, cache = self._checked_ids(saved, path), self._open_cache()
            try:
                if ids:
                    cache.restore(saved.arrays, len(ids))
            except BaseException:
                cache.close()
                raise
            self._cache, self._ids, self._failed = cache, ids, False
            old.close()

    def cancel(self) -> None:
        """Stop the ``forward`` under way, or else the next one: it raises CancelledError, and the one after runs again.

        So a cancel that comes just too late or too early is not lost; :meth:`uncancel` withdraws it. Any thread and any
        signal handler may call this. The native engine stops within one operation, onnxruntime within one node of its
        graph, the reference within one layer; where an engine cannot stop, the run ends and the next one raises.
        """
        with self._cancelling:
            self._cancelled = True
            if (cache := self._cache) is not None:
                cache.cancel(True)

    def uncancel(self) -> bool:
        """Withdraw a :meth:`cancel` that has not stopped anything yet; was there one?"""
        return self._take_cancel(self._open())

    def close(self) -> None:
        """Free the cache, once no call is under way. Closing again does nothing; other calls then raise EngineError."""
        with self._turn:
            cache, self._cache = self._cache, None
            if cache is not None:
                cache.close()

    def __enter__(self) -> Session:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Cache:
        if self._cache is None:
            raise EngineError("this session has been closed: open a new one")
        return self._cache

    def _sound(self) -> Cache:
        cache = self._open()
        if self._failed and self._ids:
            _check_rewind(cache, len(self._ids), len(self._ids))
        self._failed = False
        return cache

    def _with(self, cache: Cache, ids: array[int]) -> Session:
        session = Session(self._engine, lambda: cache)
        session._open_cache, session._ids = self._open_cache, ids
        return session

    def _take_cancel(self, cache: Cache) -> bool:
        with self._cancelling:
            cache.cancel(False)
            was, self._cancelled = self._cancelled, False
        return was

    def _checked_ids(self, saved: SavedSession, path: str | os.PathLike[str]) -> array[int]:
        try:
            ids = check_ids(saved.ids, self._engine.spec, 0) if saved.ids.size else saved.ids
        except ArgumentError as error:
            raise SessionFileError(f"{path}: {error}") from None
        return array("i", ids.tobytes())


def forward_together(sessions: Sequence[Session], ids: Sequence[TokenIds]) -> Logits:
    """Append ids[i] to sessions[i], and return logits (len(sessions), vocab) of the last of each.

    They are what ``sessions[i].forward(ids[i])`` gives; the native engine, which then reads its weights once for all of
    them, gives the same bits. A call that fails leaves all sessions as :class:`Session` says.

    Raises:
        ArgumentError: not 1..256 sessions, a session twice, sessions of several engines, not ids for each; and as for
            :meth:`Session.forward`.
        CancelledError: one of the sessions was cancelled.
        ContextLengthError, RewindError, EngineError: as for :meth:`Session.forward`.
    """
    _check_together(sessions, ids)
    in_order = sorted(sessions, key=id)  # one order for everybody, so that nobody waits for a turn in a circle
    return _in_turn(iter(in_order), lambda: _forward_together(sessions, ids))


def _check_together(sessions: Sequence[Session], ids: Sequence[TokenIds]) -> None:
    count = len(sessions)
    if not 1 <= count <= MAX_TOGETHER:
        raise ArgumentError(f"forward_together: expected 1..{MAX_TOGETHER} sessions, found {count}")
    if len(ids) != count:
        raise ArgumentError(f"forward_together: expected ids for each of {count} sessions, found {len(ids)}")
    if len(set(sessions)) != count:
        raise ArgumentError("forward_together: a session can be there only once; fork() makes another")
    if any(session._engine is not sessions[0]._engine for session in sessions):
        raise ArgumentError("forward_together: the sessions belong to several engines; expected one")


def _in_turn(sessions: Iterator[Session], run: Callable[[], Logits]) -> Logits:
    """Run while all are held, each by a ``with`` of its own: no signal comes between taking a turn and holding it."""
    if (session := next(sessions, None)) is None:
        return run()
    with session._turn:
        return _in_turn(sessions, run)


def _forward_together(sessions: Sequence[Session], ids: Sequence[TokenIds]) -> Logits:
    engine, caches, lengths = sessions[0]._engine, [s._sound() for s in sessions], [len(s._ids) for s in sessions]
    checked = check_all_ids(ids, engine.spec, lengths)
    if _take_cancels(sessions, caches):
        raise CancelledError
    try:
        logits = engine.forward_together(caches, checked, lengths)
        for session, tokens in zip(sessions, checked, strict=True):
            session._ids.frombytes(tokens.tobytes())
    except BaseException as error:
        for session, length in zip(sessions, lengths, strict=True):
            session._failed = True
            del session._ids[length:]
        if isinstance(error, CancelledError):
            _take_cancels(sessions, caches)
        raise
    return logits


def _take_cancels(sessions: Sequence[Session], caches: Sequence[Cache]) -> bool:
    taken = [s._take_cancel(cache) for s, cache in zip(sessions, caches, strict=True) if s._cancelled]  # all of them
    return any(taken)


def _check_rewind(cache: Cache, held: int, length: int) -> None:
    """RewindError unless going on from ``length`` of the ``held`` tokens is possible."""
    first = cache.rewindable_to(held)
    if length < first:
        raise RewindError(
            f"going on from {length} of {held} tokens needs what sliding windows no longer hold"
            + (f" (from {first} on they do)" if first <= held else "")
            + ": truncate to 0 and run the tokens again"
        )
