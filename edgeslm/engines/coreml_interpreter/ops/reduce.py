"""Ops that work along axes: sums and their like, softmax, normalisation, running sums, order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgeslm.engines.coreml_interpreter.ops.elementwise import in_float32
from edgeslm.engines.coreml_interpreter.signature import (
    EPSILON,
    FLOAT,
    NUMBER,
    SMALL_INT,
    TABLE,
    Domain,
    axes_of,
    axis_of,
    flag,
    integer,
    ints,
    op,
    register,
    tensor,
    text,
)
from edgeslm.engines.coreml_interpreter.types import NUMPY, Array, OpError, f32

Function = Callable[..., Any]


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    peak = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - peak).sum(axis=axis, keepdims=True)) + peak
    return np.asarray(total if keepdims else total.squeeze(axis))


def _reduce(function: Function, x: Array, axes: tuple[int, ...] | None, keep_dims: bool) -> Array:
    if not x.ndim:
        raise OpError("expected a tensor of rank 1 or more")
    chosen = tuple(range(x.ndim)) if axes is None else axes_of(axes, x.ndim)
    return in_float32(partial(function, axis=chosen, keepdims=keep_dims), x)


_REDUCE: dict[str, tuple[Function, Domain]] = {
    "reduce_sum": (np.sum, NUMBER),
    "reduce_max": (np.max, NUMBER),
    "reduce_min": (np.min, NUMBER),
    "reduce_prod": (np.prod, NUMBER),
    "reduce_sum_square": (lambda x, **how: np.sum(np.square(x), **how), NUMBER),
    "reduce_mean": (np.mean, FLOAT),
    "reduce_l2_norm": (lambda x, **how: np.sqrt(np.sum(np.square(x), **how)), FLOAT),
    "reduce_log_sum_exp": (_log_sum_exp, FLOAT),
}
for _name, (_function, _domain) in _REDUCE.items():
    _compute = partial(_reduce, _function)
    register(_name, _compute, x=tensor(_domain), axes=ints(const=True, optional=True), keep_dims=flag(False))


def _reduce_arg(function: Function, x: Array, axis: int, keep_dims: bool, output_dtype: str) -> Array:
    return np.asarray(function(x, axis=axis_of(axis, x.ndim), keepdims=keep_dims), NUMPY[output_dtype])


for _name, _function in {"reduce_argmax": np.argmax, "reduce_argmin": np.argmin}.items():
    register(
        _name,
        partial(_reduce_arg, _function),
        x=tensor(NUMBER),
        axis=integer(-1),
        keep_dims=flag(False),
        output_dtype=text("int32", "uint16", default="int32"),
    )


@op(x=tensor(FLOAT), axis=integer(-1))
def softmax(x: Array, axis: int) -> Array:
    along = axis_of(axis, x.ndim)
    return in_float32(partial(softmax_of, axis=along), x)


def softmax_of(x: Array, axis: int) -> Array:
    """Softmax of float32; the largest value is subtracted first."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


@op(
    x=tensor(FLOAT),
    axes=ints(const=True, optional=True),
    gamma=tensor(FLOAT, const=True, optional=True),
    beta=tensor(FLOAT, const=True, optional=True),
    epsilon=tensor(EPSILON, const=True, optional=True),
)
def layer_norm(
    x: Array, axes: tuple[int, ...] | None, gamma: Array | None, beta: Array | None, epsilon: Array | None
) -> Array:
    chosen = tuple(sorted(axes_of(axes, x.ndim))) if axes is not None else tuple(range(x.ndim))
    shape = tuple(x.shape[a] if a in chosen else 1 for a in range(x.ndim))
    for name, part in (("gamma", gamma), ("beta", beta)):
        if part is not None and part.shape != tuple(x.shape[a] for a in chosen):
            raise OpError(f"{name} has shape {list(part.shape)}, not that of the axes {list(chosen)}")

    def normalise(v: Array) -> Array:
        centred = v - v.mean(axis=chosen, keepdims=True)
        variance = np.square(centred).mean(axis=chosen, keepdims=True)
        y = centred / np.sqrt(variance + (np.float32(1e-5) if epsilon is None else f32(epsilon)))
        y = y if gamma is None else y * f32(gamma).reshape(shape)
        return np.asarray(y if beta is None else y + f32(beta).reshape(shape))

    return in_float32(normalise, x)


@op(x=tensor(NUMBER), axis=integer(0), exclusive=flag(False), reverse=flag(False))
def cumsum(x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    along = axis_of(axis, x.ndim)

    def add_up(v: Array) -> Array:
        v = np.flip(v, along) if reverse else v
        sums = np.cumsum(v, axis=along, dtype=v.dtype)
        sums = _shifted(sums, along) if exclusive else sums
        return np.flip(sums, along) if reverse else sums

    return in_float32(add_up, x)


def _shifted(sums: Array, axis: int) -> Array:
    """Moved on by one along the axis, with a zero first."""
    moved = np.roll(sums, 1, axis)
    np.moveaxis(moved, axis, 0)[0] = 0
    return moved


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """Indices that sort ``x``; equal elements stay in order."""
    keys = x.astype(np.float64)  # holds every element type exactly
    return np.argsort(keys if ascending else -keys, axis=axis, kind="stable")


@op(x=tensor(NUMBER), axis=integer(-1), ascending=flag(False))
def argsort(x: Array, axis: int, ascending: bool) -> Array:
    return _order(x, axis_of(axis, x.ndim), ascending).astype(np.int32)


@op(
    x=tensor(TABLE),
    k=integer(1, SMALL_INT),
    axis=integer(-1),
    ascending=flag(False),
    sort=flag(True),
    return_indices=flag(True),
    output_indices_dtype=text("int32", "uint16", default="int32"),
)
def topk(
    x: Array, k: int, axis: int, ascending: bool, sort: bool, return_indices: bool, output_indices_dtype: str
) -> list[Array]:
    along = axis_of(axis, x.ndim)
    count = x.shape[along] if k == -1 else k
    if not 0 < count <= x.shape[along]:
        raise OpError(f"k: expected -1 or 1..{x.shape[along]}, found {k}")
    places = np.take(_order(x, along, ascending), range(count), along)
    values = np.take_along_axis(x, places, along)
    return [values, places.astype(NUMPY[output_indices_dtype])] if return_indices else [values]
