"""A conversation with a model, which keeps what it has computed from turn to turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from edgeslm.engines.session import Session
from edgeslm.errors import ContextLengthError, EngineError
from edgeslm.generation.loop import Generation
from edgeslm.generation.options import GenerationArguments
from edgeslm.generation.reply import Reply
from edgeslm.generation.result import GenerationResult
from edgeslm.prefix import Prefix, rewind
from edgeslm.prompts import ChatArguments
from edgeslm.templates.chat_template import Message
from edgeslm.templates.plain import plain_messages

if TYPE_CHECKING:
    from edgeslm.api import Model


class Chat:
    """A conversation: :meth:`send` or :meth:`stream` a text, and the model's answer joins the messages.

    Each turn renders the whole conversation through the model's template and runs what differs from the turns before:
    answers equal those of ``model.generate(messages=…)``, only sooner. A turn that is cancelled, closed or interrupted
    keeps the text that has come as the model's answer; one that came to nothing, or failed, is taken back.
    Use it as a context manager, or close it. One thread at a time; :meth:`Model.cancel` may come from any.
    """

    def __init__(self, model: Model, messages: Iterable[Message], prefix: Prefix | None, chat: ChatArguments) -> None:
        """Made by :meth:`Model.chat`."""
        self._model, self._chat, self._prefix = model, chat, prefix
        self._initial = _copied(messages)
        self._messages = list(self._initial)
        self._session: Session | None = None
        self._reply: Reply | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, as a copy."""
        return _copied(self._messages)

    def send(self, text: str | Message, **options: Unpack[GenerationArguments]) -> GenerationResult:
        """The user says ``text``; returns the model's answer. A message, such as a tool's, goes as it is.

        Arguments and errors are those of :meth:`Model.generate`. Where the conversation has outgrown the context,
        ContextLengthError is raised before any work and the conversation stays as it was.
        """
        return self.stream(text, **options).run()

    def stream(self, text: str | Message, **options: Unpack[GenerationArguments]) -> Generation:
        """As :meth:`send`, piece by piece: iterate over what this returns, as with :meth:`Model.stream`.

        An answer still under way is closed first.
        """
        self._end_reply()
        question = {"role": "user", "content": text} if isinstance(text, str) else _copied([text])[0]
        ids = self._model.prompts.ids(None, [*self._messages, question], self._chat)
        session = self._session_for(ids)
        try:
            reply = self._model.begin(ids, options, session, self._keep)
        except ContextLengthError as error:
            raise ContextLengthError(f"{error}; or undo() turns, or reset() the chat") from None
        self._messages.append(question)
        self._reply = reply
        return reply

    def undo(self) -> None:
        """Take the last question back, and its answer; without one nothing happens."""
        self._end_reply()
        turns = range(len(self._initial), len(self._messages))
        questions = [i for i in turns if self._messages[i]["role"] != "assistant"]
        del self._messages[questions[-1] if questions else len(self._messages) :]

    def reset(self, messages: Iterable[Message] | None = None) -> None:
        """Begin again: with these messages, or else with those that the chat began with."""
        self._end_reply()
        if messages is not None:
            self._initial = _copied(messages)
        self._messages = list(self._initial)

    def close(self) -> None:
        """Free the cache. Closing again does nothing; the messages can still be read."""
        self._end_reply()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, ids: Sequence[int]) -> Session:
        """The session, cut to what the conversation shares with it; the prefix where that holds more."""
        if self._session is None:
            self._session = self._model.session()
        rewind(self._session, ids)
        if self._prefix is not None and self._prefix.shared(ids) > self._session.length:
            self._session.close()
            self._session = self._model.session_from(self._prefix, ids)
        return self._session

    def _keep(self, reply: Reply, error: BaseException | None) -> None:
        """The end of a turn: its text joins the conversation, or the question leaves it."""
        self._reply = None
        result = reply.result()
        failed = isinstance(error, Exception)
        if failed or (result.finish_reason == "cancelled" and not result.tokens):
            self._messages.pop()
        else:
            self._messages.append({"role": "assistant", "content": result.text})

    def _end_reply(self) -> None:
        if self._reply is not None:
            try:
                self._reply.close()
            except ValueError:  # a generator that is running
                raise EngineError("chat: another thread is still reading the answer before") from None


def _copied(messages: Iterable[Message]) -> list[dict[str, Any]]:
    held = list(messages)
    return plain_messages(held) if held else []
