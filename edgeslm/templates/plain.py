"""What a template gets to see: plain JSON values, copied from what the caller gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeslm.errors import ArgumentError

_REASONING = ("reasoning_content", "thinking", "reasoning")  # names of the same thing; templates read the first two


def plain_messages(messages: object) -> list[dict[str, Any]]:
    """Messages as transformers hands them to a template: without keys that are None, reasoning under its usual names.

    Raises:
        ArgumentError: they are no messages.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise ArgumentError(
            'messages: expected a list of at least one message such as {"role": "user", "content": "Hello"}, '
            f"found {_short(messages)}"
        )
    return [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _message(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ArgumentError(f'{where}: expected a dict whose "role" is a string, found {_short(message)}')
    copied: dict[str, Any] = {k: v for k, v in plain(message, where).items() if v is not None}
    reasoning = next((copied[name] for name in _REASONING if name in copied), None)
    if reasoning is not None:
        copied = {"thinking": reasoning, **copied, "reasoning_content": reasoning}
    return copied


def plain(value: Any, where: str) -> Any:
    """A copy of a JSON value, without subclasses that could carry more.

    Raises:
        ArgumentError: it holds something else, or itself.
    """
    try:
        return _plain(value, where)
    except RecursionError:
        raise ArgumentError(f"{where}: nested too deeply") from None


def _plain(value: Any, where: str) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind):
            return value if isinstance(value, bool) else kind(value)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise ArgumentError(f"{where}: expected what JSON can hold, found {_short(value)}")


def _short(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"
