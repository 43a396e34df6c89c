"""Readers of option values: each takes an option's name and a value, and gives it one plain form or refuses it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from edgeslm.errors import ArgumentError

Reader = Callable[[str, Any], Any]


def optional(read: Reader) -> Reader:
    """None stays None."""
    return lambda name, value: None if value is None else read(name, value)


def integer(low: int, high: int | None = None) -> Reader:
    """An int, also NumPy's, from ``low`` to ``high``."""
    allowed = f"an integer from {low}" + ("" if high is None else f" to {high}")

    def read(name: str, value: Any) -> int:
        try:
            found = low - 1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            raise refusal(name, allowed, value) from None
        if found < low or (high is not None and found > high):
            raise refusal(name, allowed, value)
        return found

    return read


def number(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Reader:
    """A finite float, also NumPy's, from ``low``, or ``above`` it, to ``high``."""
    allowed = number_range(low, high, above)

    def read(name: str, value: Any) -> float:
        try:
            found = math.nan if isinstance(value, bool | str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise refusal(name, allowed, value) from None
        if not (math.isfinite(found) and low <= found <= high) or (above and found == low):
            raise refusal(name, allowed, value)
        return found

    return read


def number_range(low: float = -math.inf, high: float = math.inf, above: bool = False) -> str:
    """What :func:`number` allows, in words."""
    start = "" if math.isinf(low) else f" above {low:g}" if above else f" from {low:g}"
    return f"a finite number{start}" + ("" if math.isinf(high) else f" to {high:g}")


def token_ids(name: str, value: Any) -> frozenset[int]:
    """A list, tuple, set or array of ids."""
    return frozenset(_token(name, item) for item in _items(name, "a list of token ids", value))


def biases(name: str, value: Any) -> Mapping[int, float]:
    """A mapping from ids to finite numbers."""
    if not isinstance(value, Mapping):
        raise refusal(name, "a mapping from token ids to numbers", value)
    bias = number()
    return {_token(name, token): bias(f"{name}[{token!r}]", amount) for token, amount in value.items()}


def strings(name: str, value: Any) -> tuple[str, ...]:
    """A string, or several; none of them empty."""
    allowed = "a string that is not empty, or a list of such"
    found = [value] if isinstance(value, str) else _items(name, allowed, value)
    for item in found:
        if not isinstance(item, str) or not item:
            raise refusal(name, allowed, item)
    return tuple(found)


def refusal(name: str, allowed: str, value: Any) -> ArgumentError:
    """The error for a value; a long one is cut short."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = f"a value of type {type(value).__name__}"
    return ArgumentError(f"{name}: expected {allowed}, found {shown if len(shown) <= 200 else shown[:200] + '…'}")


_token = integer(0, 2**31 - 1)


def _items(name: str, allowed: str, value: Any) -> list[Any]:
    """The items of a collection, for an iterator might never end."""
    try:
        if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | Mapping):
            return list(value)
    except TypeError:  # an array without dimensions
        pass
    raise refusal(name, allowed, value)
