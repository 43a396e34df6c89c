"""A completion whose end matters to somebody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeslm.engines.protocol import Engine
from edgeslm.engines.session import Session
from edgeslm.generation.loop import Generation
from edgeslm.generation.options import GenerationOptions
from edgeslm.text_stream import StreamDecoder

OnEnd = Callable[["Reply", BaseException | None], None]


class Reply(Generation):
    """A :class:`Generation` on a session that is given, and that says when it ends, however it ends."""

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        options: GenerationOptions,
        decoder: StreamDecoder | None,
        session: Session,
        on_end: OnEnd,
    ) -> None:
        """``on_end`` is called once, with this and the exception that ended it, if one did."""
        super().__init__(engine, prompt, options, decoder, session)
        self._on_end: OnEnd | None = on_end

    def __next__(self) -> str:
        try:
            return super().__next__()
        except StopIteration:
            self._ended(None)
            raise
        except BaseException as error:
            self._ended(error)
            raise

    def close(self) -> None:
        super().close()
        self._ended(None)

    def _ended(self, error: BaseException | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self, error)
