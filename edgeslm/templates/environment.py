"""transformers' environment for chat templates, in jinja2's immutable sandbox, on a budget.

What it offers follows transformers' ``chat_template_utils.py``. Two things are stricter: only what
:mod:`edgeslm.templates.costs` lists may be called (no HTML helpers, no random text), and all of it is paid for.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import datetime
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, pass_context

from edgeslm.templates.budget import ELEMENT, Budget, OverBudget, size
from edgeslm.templates.costs import (
    BINARY,
    FILTERS,
    METHODS,
    TESTS,
    WALKING,
    Cost,
)
from edgeslm.templates.formatting import Format
from edgeslm.templates.metering import metered
from edgeslm.templates.objects import Dict, Generation, TemplateNamespace, date_text, refuse

Now = Callable[[], datetime]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
_QUICK = (int, float, type(None), Undefined)  # to compare with
_CALLABLE = (LoopContext, BlockReference, Joiner, Undefined, Format)  # an undefined one says its name when called
_OWN_METHODS = {LoopContext: ("changed", "cycle"), Cycler: ("next", "reset")}
CALL = 128  # units
_HIDDEN = ("_loop_vars", "_block_vars")  # jinja2 passes them to every call, for those that take the context


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Not for several threads at a time: it has one budget."""

    intercepted_binops = frozenset(BINARY)

    def __init__(self, now: Now) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, loopcontrols],
            optimized=False,  # constants are computed when rendering, where they are paid for
            finalize=_printed,
        )
        self.budget = Budget(0)
        self.concat = self._concat  # type: ignore[method-assign]
        self.filters = {name: self._paid(self.filters[name], cost, name in WALKING) for name, cost in FILTERS.items()}
        self.filters["tojson"] = self._paid(self._tojson, FILTERS["tojson"])
        self.tests |= {name: self._paid(self.tests[name], cost) for name, cost in TESTS.items()}
        mapping = Dict()
        self.globals = {
            "range": self._range,
            "dict": mapping,
            "namespace": TemplateNamespace,
            "cycler": Cycler,
            "joiner": Joiner,
            "raise_exception": refuse,
            "strftime_now": functools.partial(date_text, now),
        }
        self._functions = (*self.globals.values(), mapping.fromkeys)

    def chat_template(self, source: str) -> jinja2.Template:
        """Compile."""
        return self.from_string(metered(self.parse(source)))

    def render(self, template: jinja2.Template, budget: Budget, variables: dict[str, Any]) -> str:
        """Render within a budget."""
        self.budget = budget
        return self._concat(template.root_render_func(template.new_context(variables)))

    # What the changed syntax tree calls.

    def tick(self, units: int) -> bool:
        self.budget.charge(units)
        return True

    def joined(self, *values: Any) -> str:
        self.budget.weigh(*values)
        return "".join(map(str, values))

    def compared(self, left: Any, *chain: Any) -> Any:
        result: Any = True
        for name, right in zip(chain[::2], chain[1::2], strict=True):
            if name in ("in", "notin") and isinstance(right, dict):
                self.budget.weigh(left)
            elif not isinstance(right, _QUICK):
                self.budget.weigh(left, right)
            result = _COMPARISONS[name](left, right)
            if not result:
                break
            left = right
        return result

    def sliced(self, value: Any) -> Any:
        self.budget.charge(size(value))
        return value

    def key(self, value: Any) -> Any:
        self.budget.weigh(value)
        return value

    def spread(self, values: Any) -> Any:
        self.budget.charge(ELEMENT * len(values) if isinstance(values, Sized) else ELEMENT)
        return self._held(values) if _is_lazy(values) else values

    # What jinja2 calls.

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if owner is self:
            return function(*args)
        self.budget.charge(CALL)
        if isinstance(function, Macro):  # what it is given, it only hands on
            return context.call(function, *args, **kwargs)
        args = tuple(self._held(a) if _is_lazy(a) else a for a in args)
        given = {name: value for name, value in kwargs.items() if name not in _HIDDEN}
        cost = _method_cost(owner, function)
        if cost is not None:
            cost(self.budget, owner, *args, **given)
        else:
            self.budget.weigh(args, given)
            if not self.is_safe_callable(function):
                raise SecurityError(f"{type(function).__name__} is not for templates to call")
        return context.call(function, *args, **given)

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, _CALLABLE):
            return True
        owner = getattr(obj, "__self__", None)
        for kind, names in _OWN_METHODS.items():
            if isinstance(owner, kind):
                return getattr(obj, "__name__", "") in names
        return any(obj is function or obj == function for function in self._functions)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any, /) -> Any:
        BINARY[operator](self.budget, left, right)
        return super().call_binop(context, operator, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            self.budget.weigh(argument)  # it is hashed
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None or value.__name__ != "format":
            return None
        return Format(self, self.budget, value.__self__)

    def _concat(self, pieces: Iterable[str]) -> str:
        held = []
        for piece in pieces:
            self.budget.charge(len(piece))
            held.append(piece)
        return "".join(held)

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        self.budget.charge(size(numbers))
        return numbers

    def _tojson(
        self, x: Any, ensure_ascii: Any = False, indent: Any = None, separators: Any = None, sort_keys: Any = False
    ) -> str:
        """JSON as transformers writes it: nothing escaped for HTML."""
        if (isinstance(indent, int) and indent > 16) or len(str(indent)) > 16:
            raise OverBudget("tojson with an indent of more than 16")
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        return self._concat(encoder.iterencode(x))

    def _held(self, values: Iterator[Any]) -> list[Any]:
        held = []
        for value in values:
            self.budget.charge(ELEMENT)
            held.append(value)
        return held

    def _paid(self, function: Any, cost: Cost, walking: bool = False) -> Callable[..., Any]:
        """A filter or test that charges first."""
        skip = int(hasattr(function, "jinja_pass_arg"))  # the context or the like, given by jinja2

        @functools.wraps(function)
        def paid(*args: Any, **kwargs: Any) -> Any:
            passed, given = args[:skip], args[skip:]
            if walking and given and _is_lazy(given[0]):
                given = (self._held(given[0]), *given[1:])
            cost(self.budget, *given, **kwargs)
            return function(*passed, *given, **kwargs)

        return paid


def _is_lazy(value: object) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, LoopContext)


def _method_cost(owner: Any, function: Any) -> Cost | None:
    """Cost of a method of a text, list or dictionary, or None where it is something else.

    Raises:
        SecurityError: it is such a method, and not allowed.
    """
    for kind, costs in METHODS.items():
        if isinstance(owner, kind):
            name = getattr(function, "__name__", "")
            if name not in costs:
                raise SecurityError(f"{kind.__name__}.{name} is not for templates")
            return costs[name]
    return None


@pass_context
def _printed(context: Context, value: Any) -> Any:
    """Pay for the text of a value that is printed."""
    environment = context.environment
    assert isinstance(environment, ChatEnvironment)
    environment.budget.weigh(value)
    return value
