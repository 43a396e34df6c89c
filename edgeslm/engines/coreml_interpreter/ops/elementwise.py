"""Ops that work element by element, with NumPy's broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgeslm.engines.coreml_interpreter.budget import Budget
from edgeslm.engines.coreml_interpreter.signature import (
    ANY,
    BOOL,
    EPSILON,
    FLOAT,
    NUMBER,
    PLAIN,
    Domain,
    broadcast,
    op,
    register,
    tensor,
    text,
)
from edgeslm.engines.coreml_interpreter.types import NUMPY, Array, OpError, f32

Function = Callable[..., Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def in_float32(function: Function, *arrays: Array) -> Array:
    """``function`` of the arrays; fp16 is computed in float32 and rounded once."""
    if arrays[0].dtype != np.float16:
        return np.asarray(function(*arrays), arrays[0].dtype)
    return np.asarray(function(*map(f32, arrays)), np.float16)


def _binary(function: Function, budget: Budget, x: Array, y: Array) -> Array:
    budget.tensor(broadcast(x.shape, y.shape))
    return in_float32(function, x, y)


def _divide(function: Function, budget: Budget, x: Array, y: Array) -> Array:
    if y.dtype == np.int32 and not y.all():
        raise OpError("division by zero")
    return _binary(function, budget, x, y)


def _power(budget: Budget, x: Array, y: Array) -> Array:
    if y.dtype == np.int32 and y.size and y.min() < 0:
        raise OpError("an integer to a negative power")
    return _binary(np.power, budget, x, y)


def _compare(function: Function, budget: Budget, x: Array, y: Array) -> Array:
    budget.tensor(broadcast(x.shape, y.shape))
    return np.asarray(function(x, y))


def _add_binary(shape_of: Function, domain: Domain, **functions: Function) -> None:
    for name, function in functions.items():
        register(name.rstrip("_"), partial(shape_of, function), x=tensor(domain), y=tensor(domain))


_add_binary(_binary, NUMBER, add=np.add, sub=np.subtract, mul=np.multiply, maximum=np.maximum, minimum=np.minimum)
_add_binary(_binary, FLOAT, real_div=np.divide)
_add_binary(_divide, NUMBER, floor_div=np.floor_divide, mod=np.mod)
_add_binary(_compare, NUMBER, equal=np.equal, not_equal=np.not_equal, greater=np.greater, less=np.less)
_add_binary(_compare, NUMBER, greater_equal=np.greater_equal, less_equal=np.less_equal)
_add_binary(_compare, BOOL, logical_and=np.logical_and, logical_or=np.logical_or, logical_xor=np.logical_xor)
register("pow", _power, x=tensor(NUMBER), y=tensor(NUMBER))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


_UNARY: dict[str, Function] = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.logaddexp(x, 0),
    "erf": _erf,
}


def _unary(function: Function, x: Array) -> Array:
    return in_float32(function, x)


for _name, _function in _UNARY.items():
    register(_name, partial(_unary, _function), x=tensor(FLOAT))
for _name, _function in {"abs": np.abs, "sign": np.sign, "square": np.square}.items():
    register(_name, partial(_unary, _function), x=tensor(NUMBER))

_GELU: dict[str, Function] = {
    "EXACT": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "TANH_APPROXIMATION": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    "SIGMOID_APPROXIMATION": lambda x: x * _sigmoid(1.702 * x),
}


@op(x=tensor(FLOAT), mode=text(*_GELU, default="EXACT"))
def gelu(x: Array, mode: str) -> Array:
    return in_float32(_GELU[mode], x)


@op(x=tensor(BOOL))
def logical_not(x: Array) -> Array:
    return np.logical_not(x)


@op(x=tensor(ANY))
def identity(x: Array) -> Array:
    return x


def _with_epsilon(function: Function, default: float, x: Array, epsilon: Array | None) -> Array:
    added = np.float32(default) if epsilon is None else f32(epsilon)
    return in_float32(lambda v: function(v + added), x)


for _name, _function, _default in (
    ("rsqrt", lambda v: 1 / np.sqrt(v), 1e-12),
    ("inverse", lambda v: 1 / v, 1e-4),
    ("log", np.log, 1e-45),
):
    _compute = partial(_with_epsilon, _function, _default)
    register(_name, _compute, x=tensor(FLOAT), epsilon=tensor(EPSILON, const=True, optional=True))


@op(x=tensor(FLOAT), alpha=tensor(FLOAT, const=True), beta=tensor(FLOAT, const=True))
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    if alpha.ndim or beta.ndim or not alpha < beta:
        raise OpError(f"expected one value alpha below one value beta, found {alpha} and {beta}")
    return np.clip(x, alpha, beta)


@op(x=tensor(ANY), dtype=text("fp16", "fp32", "int8", "uint8", "int16", "uint16", "int32", "bool"))
def cast(x: Array, dtype: str) -> Array:
    to = NUMPY[dtype]
    if to.kind in "iu" and x.dtype.kind != "b":
        whole, bounds = np.trunc(x.astype(np.float64)), np.iinfo(to)
        if not ((whole >= bounds.min) & (whole <= bounds.max)).all():  # false for NaN
            raise OpError(f"a value does not fit {dtype}")
    return x.astype(to)


@op(cond=tensor(BOOL), a=tensor(PLAIN), b=tensor(PLAIN))
def select(budget: Budget, cond: Array, a: Array, b: Array) -> Array:
    budget.tensor(broadcast(cond.shape, a.shape, b.shape))
    return np.where(cond, a, b)
