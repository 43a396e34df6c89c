"""The objects that a template finds in its environment, as transformers offers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from edgeslm.templates.budget import OverBudget


class Refusal(TemplateError):
    """The template itself calls ``raise_exception``: these messages are not for it."""


def refuse(message: object) -> None:
    raise Refusal(str(message))


def date_text(now: Callable[[], datetime], format: str) -> str:
    if len(format) > 100 or sum(map(str.isdigit, format)) > 8:
        raise OverBudget(f"a date format of {len(format)} characters")
    return now().strftime(format)


class Generation(Extension):
    """``{% generation %}`` marks what the model says, for training; its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own name and type)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Dict:
    """The global ``dict``, without the type's other attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class TemplateNamespace(Namespace):
    """Without private names; printed, it shows nothing of what it holds."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        attributes = dict(*given, **kwargs)
        for name in attributes:
            _public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"{name[:50]!r}: a namespace holds no private names")
