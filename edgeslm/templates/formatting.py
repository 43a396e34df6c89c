"""``str.format`` in a template: no private attributes, no giant fields."""

from __future__ import annotations

from typing import Any

from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from edgeslm.templates.budget import Budget, OverBudget
from edgeslm.templates.costs import MAX_FORMAT


class Format:
    """``text.format``, paid for field by field."""

    def __init__(self, environment: SandboxedEnvironment, budget: Budget, text: str) -> None:
        self._formatter, self._text = _Formatter(environment), str(text)
        self._formatter.budget = budget

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        if len(self._text) > MAX_FORMAT:
            raise OverBudget(f"a format string of {len(self._text)} characters")
        self._formatter.budget.charge(len(self._text))
        return self._formatter.vformat(self._text, args, kwargs)


class _Formatter(SandboxedFormatter):
    budget: Budget

    def format_field(self, value: Any, format_spec: str) -> str:
        self.budget.weigh(value, format_spec)
        if sum(map(str.isdigit, format_spec)) > 4:
            raise OverBudget(f"a field as wide as {format_spec[:20]!r}")
        text: str = super().format_field(value, format_spec)
        self.budget.charge(len(text))
        return text

    def convert_field(self, value: Any, conversion: Any) -> Any:
        self.budget.weigh(value)
        return super().convert_field(value, conversion)
