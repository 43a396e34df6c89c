"""Reusing what a session has computed: for a prompt that begins with the same tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType

from edgeslm.engines.protocol import Engine
from edgeslm.engines.session import Session
from edgeslm.errors import RewindError
from edgeslm.prompts import common_length


def rewind(session: Session, ids: Sequence[int]) -> None:
    """Cut a session to the tokens that it shares with the start of ``ids``, all but the last of them at most.

    Where sliding windows have forgotten what that needs, it is emptied: running everything again stays exact.
    """
    shared = min(common_length(session.ids.tolist(), ids), len(ids) - 1)
    try:
        session.truncate(shared)
    except RewindError:
        session.truncate(0)


class Prefix:
    """Tokens that many prompts begin with, run once: ``model.prefix(text)``, then ``generate(text + …, prefix=…)``.

    It saves time and changes no result: a prompt is tokenized whole, and takes from the prefix as many tokens as both
    begin with. Use it as a context manager, or close it.
    """

    def __init__(self, engine: Engine, session: Session) -> None:
        """``session`` of ``engine`` holds the tokens, and belongs to the prefix from now on."""
        self.engine, self._session = engine, session

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens held."""
        return tuple(self._session.ids.tolist())

    def shared(self, ids: Sequence[int]) -> int:
        """How many tokens a prompt takes from here, if windows allow."""
        return min(common_length(self.tokens, ids), len(ids) - 1)

    def session_for(self, ids: Sequence[int]) -> Session:
        """A session of its own that holds what ``ids`` begin with."""
        session = self._session.fork()
        try:
            rewind(session, ids)
        except BaseException:
            session.close()
            raise
        return session

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, for ``model.load_prefix(path)`` of the same bundle and engine.

        Raises:
            SessionFileError: the file cannot be written.
        """
        self._session.save(path)

    def close(self) -> None:
        """Free it. Closing again does nothing."""
        self._session.close()

    def __enter__(self) -> Prefix:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
