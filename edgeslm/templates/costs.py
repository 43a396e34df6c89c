"""What the operations that a template may use cost, charged before they run; what is not listed here it may not use.

Each cost is called with the budget and the operation's own arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from edgeslm.templates.budget import ELEMENT, Budget, OverBudget, size

Cost = Callable[..., object]

MAX_BITS = 1024  # of an integer that a template computes
MAX_FORMAT = 10_000  # characters of a format string
_WIDTH = re.compile(r"\*|\d{4}")  # a width or precision from the arguments, or of thousands
_PERCENT = re.compile(r"%(?:\([^)]*\))?([^a-zA-Z%(]*)")


def nothing(budget: Budget, *args: Any, **kwargs: Any) -> None:
    """Of what takes the same time for all arguments."""
    budget.charge(ELEMENT)


def everything(budget: Budget, *args: Any, **kwargs: Any) -> None:
    """Of what looks at all of its arguments, and gives back no more than a few times them."""
    budget.weigh(*args, *kwargs.values())


def _each(budget: Budget, value: Any = (), *args: Any, **kwargs: Any) -> None:
    """Of what does the same with each element of its first argument."""
    count = len(value) if isinstance(value, Sized) else 1
    budget.charge((1 + count) * (ELEMENT + sum(map(size, (*args, *kwargs.values())))))


def _ordering(budget: Budget, *args: Any, **kwargs: Any) -> None:
    """Of comparing elements with each other."""
    budget.charge(15 * budget.weigh(*args, *kwargs.values()))


def _searching(budget: Budget, text: str, what: Any = " ", *args: Any) -> None:
    """Of a search whose worst case is the product of both lengths."""
    budget.charge((ELEMENT + len(text)) * max(1, len(what or " ")))


def _splitting(budget: Budget, text: str, separator: Any = None, *args: Any, **kwargs: Any) -> None:
    pieces = text.count(separator) + 1 if separator and isinstance(separator, str) else len(text) // 2 + 1
    _searching(budget, text, separator)
    budget.charge(5 * ELEMENT * pieces)


def _width(budget: Budget, text: Any, width: int = 80, *args: Any) -> None:
    budget.weigh(text)
    budget.charge(max(0, width))


def _expandtabs(budget: Budget, text: str, tabsize: int = 8) -> None:
    budget.charge(size(text) * max(1, tabsize))


def _replace(budget: Budget, text: Any, old: Any, new: Any, count: Any = None) -> None:
    budget.weigh(text, old, new)
    budget.charge(str(text).count(str(old)) * len(str(new)))


def _join(budget: Budget, separator: str, parts: Iterable[Any]) -> None:
    if isinstance(parts, str):
        budget.charge(ELEMENT * len(parts))
    joined = list(parts)
    budget.weigh(joined)
    budget.charge(len(joined) * len(separator))


def _join_filter(budget: Budget, value: Any, d: Any = "", attribute: Any = None) -> None:
    budget.weigh(d)
    _join(budget, str(d), value)


def _trim(budget: Budget, value: Any, chars: Any = None) -> None:
    budget.weigh(value)
    _searching(budget, str(value), chars)


def _indent(budget: Budget, s: str, width: Any = 4, first: bool = False, blank: bool = False) -> None:
    lines = s.count("\n") + 1
    budget.charge(size(s) + lines * (5 * ELEMENT + (len(width) if isinstance(width, str) else max(0, width))))


def _round(budget: Budget, value: Any, precision: int = 0, method: str = "common") -> None:
    if not isinstance(value, int | float):
        raise TypeError(f"round: expected a number, found {type(value).__name__}")  # it would be multiplied
    if abs(precision) > 30:
        raise OverBudget(f"rounding to {precision} digits")


def _pieces(budget: Budget, value: Any, count: int, fill_with: Any = None) -> None:
    budget.charge(ELEMENT * ((len(value) if isinstance(value, Sized) else 1) + max(0, count)))


def _sum(budget: Budget, iterable: Any, attribute: Any = None, start: Any = 0) -> None:
    """Adding up lists copies the sum each time."""
    budget.charge((1 + len(iterable)) * (ELEMENT + sum(size(part) for part in iterable)))


def _elements(budget: Budget, value: Any, *args: Any) -> None:
    budget.charge(5 * ELEMENT * (1 + len(value)))


def _words(budget: Budget, value: Any) -> None:
    """Of cutting a text, or what is written as one, into words."""
    budget.charge(5 * ELEMENT * budget.weigh(value) // 2)


def _escape(budget: Budget, value: Any) -> None:
    """Of writing a character as up to six."""
    budget.charge(5 * budget.weigh(value))


def percent(budget: Budget, text: str, *args: Any, **kwargs: Any) -> None:
    """Of ``text % args``: a field may name the same argument as another."""
    if len(text) > MAX_FORMAT or any(_WIDTH.search(flags) for flags in _PERCENT.findall(text)):
        raise OverBudget("a format string of that length or width")
    budget.charge(text.count("%") * (1000 + budget.weigh(text, *args, *kwargs.values())))


def times(budget: Budget, left: Any, right: Any) -> None:
    """Of ``left * right``."""
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() + right.bit_length())
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            budget.charge(ELEMENT + (size(sequence) - ELEMENT) * max(1, count))


def plus(budget: Budget, left: Any, right: Any) -> None:
    """Of ``left + right``."""
    if isinstance(left, int) and isinstance(right, int):
        _bits(max(left.bit_length(), right.bit_length()))
    budget.charge(size(left) + size(right))


def power(budget: Budget, left: Any, right: Any) -> None:
    """Of ``left ** right``."""
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() * max(1, right))


def modulo(budget: Budget, left: Any, right: Any) -> None:
    """Of ``left % right``, which formats where left is a text."""
    if isinstance(left, str):
        percent(budget, left, right)


def _bits(count: int) -> None:
    if count > MAX_BITS:
        raise OverBudget(f"a number of {count} bits")


BINARY: Mapping[str, Cost] = {"*": times, "+": plus, "**": power, "%": modulo}

_PLAIN_TEXT = """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower
    isnumeric isprintable isspace istitle isupper lower partition removeprefix removesuffix startswith swapcase title
    upper
"""


def _all(names: str, cost: Cost) -> dict[str, Cost]:
    return dict.fromkeys(names.split(), cost)


METHODS: Mapping[type, Mapping[str, Cost]] = {
    str: {
        **_all(_PLAIN_TEXT, everything),
        **_all("lstrip rfind rindex rpartition rstrip strip", _searching),
        **_all("rsplit split", _splitting),
        **_all("center ljust rjust zfill", _width),
        "expandtabs": _expandtabs,
        "join": _join,
        "replace": _replace,
        "splitlines": _elements,
    },
    dict: {"copy": everything, "get": lambda budget, value, key, *args: budget.weigh(key)}
    | _all("items keys values", nothing),
    list: _all("copy count index", everything),
    tuple: _all("count index", everything),
}

FILTERS: Mapping[str, Cost] = {
    **_all("abs attr count d default first items last length", nothing),
    **_all("capitalize float int lower safe string tojson truncate upper", everything),
    **_all("map reject rejectattr reverse select selectattr", _each),
    **_all("dictsort groupby max min sort unique", _ordering),
    **_all("batch slice", _pieces),
    **_all("e escape", _escape),
    "center": _width,
    "format": percent,
    "indent": _indent,
    "join": _join_filter,
    "list": _elements,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
    "title": _words,
    "trim": _trim,
}
# Filters that walk through their first argument: a generator is made a list first, to know its length.
WALKING = _all(
    "batch groupby join list map max min reject rejectattr reverse select selectattr slice sort sum unique", nothing
).keys()

TESTS: Mapping[str, Cost] = {
    **_all("in == eq equalto != ne > gt greaterthan ge >= < lt lessthan <= le lower upper", everything),
    **_all("odd even", lambda budget, value: modulo(budget, value, 2)),
    "divisibleby": modulo,
}
