"""A model's chat template: messages in, the text that the model was trained on out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeslm.errors import ArgumentError, TemplateError
from edgeslm.templates.budget import Budget, OverBudget
from edgeslm.templates.plain import plain, plain_messages

if TYPE_CHECKING:
    from edgeslm.templates.environment import Now

MAX_SOURCE = 64 << 10  # characters; the longest in the field is about a third
BASE_UNITS = 16 << 20  # what a template may spend on a conversation of no length …
UNITS_PER_UNIT = 64  # … and for each unit of the conversation's own

Message = Mapping[str, Any]


class ChatTemplate:
    """One template, compiled. Threads may share it.

    A template that asks for more work or text than a conversation needs is stopped: by a count of operations and
    characters, so alike on every machine.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None, now: Now = datetime.now) -> None:
        """
        Args:
            source: Jinja, as in chat_template.jinja.
            special_tokens: what the template may name: ``bos_token``, ``eos_token``, …
            now: for templates that print today's date.

        Raises:
            TemplateError: it is no template, or too long or too deep for one.
        """
        from edgeslm.templates.environment import ChatEnvironment

        if len(source) > MAX_SOURCE:
            raise TemplateError(f"chat template: {len(source)} characters; expected at most {MAX_SOURCE}")
        self._special_tokens = dict(special_tokens or {})
        self._environment = ChatEnvironment(now)
        self._lock = threading.Lock()
        try:
            self._template = self._environment.chat_template(source)
        except Exception as error:  # jinja2's, Python's compiler's, or a RecursionError of either
            raise _failed(error, getattr(error, "lineno", None)) from None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The conversation as text, as transformers' ``apply_chat_template(tokenize=False)`` gives it.

        Args:
            messages: objects with ``role`` and, as a rule, ``content``.
            tools: JSON schemas of functions that the model may call.
            documents: for templates that know them.
            add_generation_prompt: end with what begins the model's turn.
            variables: others that the template knows, such as ``enable_thinking``.

        Raises:
            ArgumentError: these are no messages, or the template refuses them.
            TemplateError: the template fails, or wants more work or text than a conversation needs.
        """
        from edgeslm.templates.objects import Refusal

        given = {
            **self._special_tokens,
            "messages": plain_messages(messages),
            "tools": plain(tools, "tools"),
            "documents": plain(documents, "documents"),
            "add_generation_prompt": add_generation_prompt,
            **plain(variables, "template variables"),
        }
        budget = Budget(BASE_UNITS + UNITS_PER_UNIT * _units(given))
        try:
            with self._lock:
                return self._environment.render(self._template, budget, given)
        except Refusal as refusal:
            raise ArgumentError(f"messages: the chat template refuses them: {_short(refusal)}") from None
        except (Exception, MemoryError) as error:  # a template may raise anything
            raise _failed(error, self._line(error.__traceback__)) from None

    def _line(self, trace: TracebackType | None) -> int | None:
        """The template's line that was running."""
        found = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<template>":
                found = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return found


def _units(given: object) -> int:
    unlimited = 1 << 62
    try:
        return Budget(unlimited).weigh(given)
    except OverBudget as error:
        raise ArgumentError(f"messages, tools or other variables of the template: {error}") from None


def _failed(error: BaseException, line: int | None) -> TemplateError:
    where = "chat template" if line is None else f"chat template, line {line}"
    if isinstance(error, OverBudget):
        return TemplateError(
            f"{where}: stopped, because it asks for {_short(error)}; get the template from another source"
        )
    if isinstance(error, RecursionError):
        return TemplateError(f"{where}: nested too deeply")
    return TemplateError(f"{where}: {_short(error) or type(error).__name__}; the template or the messages are at fault")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
