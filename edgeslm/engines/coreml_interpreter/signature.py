"""What each op takes. Element types and constness are checked when a program is linked, the rest where ops run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgeslm.engines.coreml_interpreter.blobs import Weight
from edgeslm.engines.coreml_interpreter.types import Array, OpError

Value = Array | Weight | str  # what a name of a program stands for
Compute = Callable[..., Any]
Kind = Literal["tensor", "tensors", "ints", "int", "flags", "flag", "text"]
MAX_LIST = 4096  # entries of a list of integers or flags


@dataclass(frozen=True)
class Domain:
    """Element types that a parameter takes; parameters of one op that share a named domain have one type."""

    name: str
    types: frozenset[str]


def domain(name: str, *types: str) -> Domain:
    return Domain(name, frozenset(types))


FLOAT = domain("T", "fp16", "fp32")
EPSILON = domain("U", "fp16", "fp32")
NUMBER = domain("T", "fp16", "fp32", "int32")
BOOL = domain("", "bool")
INT32 = domain("", "int32")
SMALL_INT = domain("U", "int8", "int16", "int32")
INDEX = domain("I", "int8", "uint8", "int16", "uint16", "int32")
PLAIN = domain("T", "fp16", "fp32", "int32", "bool")
FILLING = domain("U", "fp16", "fp32", "int32", "bool")
ANY = domain("T", "fp16", "fp32", "int8", "int16", "int32", "uint8", "uint16", "bool")
TABLE = domain("T", "fp16", "fp32", "int8", "int16", "int32", "uint8", "uint16")
TEXT = domain("", "string")

_REQUIRED = object()


@dataclass(frozen=True)
class Param:
    """One parameter of an op."""

    kind: Kind
    domain: Domain
    const: bool = False
    default: Any = _REQUIRED
    weight: bool = False  # may be given as a Weight, not read as a whole
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED

    def convert(self, value: Value) -> Any:
        """A value of the right element type as the op's function takes it."""
        if self.kind == "text":
            if value not in self.choices:
                raise OpError(f"expected one of {', '.join(self.choices)}; found {str(value)[:40]!r}")
            return value
        assert not isinstance(value, str)  # its type has been compared with the domain
        if isinstance(value, Weight):
            if self.weight:
                return value
            value = value.array()
        if self.kind in ("tensor", "tensors"):
            return value
        rank = 1 if self.kind in ("ints", "flags") else 0
        if value.ndim != rank or value.size > MAX_LIST:
            raise OpError(f"expected {'a short list' if rank else 'one value'}, found shape {list(value.shape)}")
        return tuple(value.tolist()) if rank else value.item()


def tensor(domain: Domain, *, const: bool = False, optional: bool = False, weight: bool = False) -> Param:
    return Param("tensor", domain, const, None if optional else _REQUIRED, weight)


def tensors() -> Param:
    """Several tensors of one element type."""
    return Param("tensors", ANY)


def ints(domain: Domain = INT32, *, const: bool = False, optional: bool = False) -> Param:
    return Param("ints", domain, const, None if optional else _REQUIRED)


def integer(default: Any = _REQUIRED, domain: Domain = INT32) -> Param:
    return Param("int", domain, True, default)


def flags() -> Param:
    return Param("flags", BOOL, True, None)


def flag(default: bool) -> Param:
    return Param("flag", BOOL, True, default)


def text(*choices: str, default: Any = _REQUIRED) -> Param:
    return Param("text", TEXT, True, default, choices=choices)


@dataclass(frozen=True)
class Op:
    """An op: its parameters, and the function that computes it (given a Budget first, if it asks for one)."""

    params: dict[str, Param]
    compute: Compute
    budgeted: bool


OPS: dict[str, Op] = {}


def register(name: str, compute: Compute, **params: Param) -> None:
    """Add an op under its MIL name."""
    OPS[name] = Op(params, compute, "budget" in inspect.signature(compute).parameters)


def op(**params: Param) -> Callable[[Compute], Compute]:
    """Add the decorated function, under its own name (an underscore at its end is dropped)."""

    def add(compute: Compute) -> Compute:
        register(compute.__name__.rstrip("_"), compute, **params)
        return compute

    return add


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as 0..rank - 1."""
    if not -rank <= axis < rank:
        raise OpError(f"axis {axis} is not one of a tensor of rank {rank}")
    return axis % rank


def axes_of(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Several axes, each once."""
    found = tuple(axis_of(a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise OpError(f"axes {list(axes)}: one is there twice")
    return found


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is computed element by element from these."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise OpError(f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast") from None
