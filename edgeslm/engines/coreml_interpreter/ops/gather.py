"""Ops that take or put elements by index. Indices count from 0 upwards; any other is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeslm.engines.coreml_interpreter.blobs import Weight
from edgeslm.engines.coreml_interpreter.budget import Budget
from edgeslm.engines.coreml_interpreter.signature import (
    INDEX,
    INT32,
    NUMBER,
    TABLE,
    axis_of,
    flag,
    integer,
    op,
    tensor,
    text,
)
from edgeslm.engines.coreml_interpreter.types import Array, OpError

# In place at a tuple of index arrays; where several updates meet, each counts (the last one, for "update").
_MODES: dict[str, Callable[[Array, Any, Array], None]] = {
    "update": lambda x, at, u: x.__setitem__(at, u),
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}
_MODE = text(*_MODES)  # no default: the documentation contradicts itself about it


def _check_range(indices: Array, size: int) -> None:
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise OpError(f"index {indices.min()} or {indices.max()} is outside of 0..{size - 1}")


@op(
    x=tensor(TABLE, weight=True),
    indices=tensor(INDEX),
    axis=integer(0),
    batch_dims=integer(0),
    validate_indices=flag(False),
)
def gather(
    budget: Budget, x: Array | Weight, indices: Array, axis: int, batch_dims: int, validate_indices: bool
) -> Array:
    rank = len(x.shape)
    along = axis_of(axis, rank)
    if not 0 <= batch_dims <= min(along, indices.ndim) or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise OpError(f"batch_dims {batch_dims} of {list(x.shape)} and {list(indices.shape)}")
    _check_range(indices, x.shape[along])
    budget.tensor(x.shape[:along] + indices.shape[batch_dims:] + x.shape[along + 1 :])
    if isinstance(x, Weight) and along == 0:
        return x.take(indices)
    table = x.array() if isinstance(x, Weight) else x
    if not batch_dims:
        return np.take(table, indices, along)
    outer = table.shape[:batch_dims]
    found = [np.take(table[at], indices[at], along - batch_dims) for at in np.ndindex(outer)]
    return np.stack(found).reshape(outer + found[0].shape)


@op(x=tensor(TABLE), indices=tensor(INDEX), axis=integer(0), validate_indices=flag(False))
def gather_along_axis(budget: Budget, x: Array, indices: Array, axis: int, validate_indices: bool) -> Array:
    along = _check_along(x, indices, axis)
    budget.tensor(indices.shape)
    return np.take_along_axis(x, indices.astype(np.int64), along)


def _check_along(x: Array, indices: Array, axis: int) -> int:
    along = axis_of(axis, x.ndim)
    if indices.ndim != x.ndim or any(
        a != b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != along
    ):
        raise OpError(f"indices of shape {list(indices.shape)} are not for {list(x.shape)} along axis {along}")
    _check_range(indices, x.shape[along])
    return along


@op(x=tensor(TABLE), indices=tensor(INDEX), batch_dims=integer(0), validate_indices=flag(False))
def gather_nd(budget: Budget, x: Array, indices: Array, batch_dims: int, validate_indices: bool) -> Array:
    if batch_dims:
        raise OpError("batch_dims is not known to this interpreter")
    at = _coordinates(x, indices)
    budget.tensor(indices.shape[:-1] + x.shape[len(at) :])
    return np.asarray(x[at])


def _coordinates(x: Array, indices: Array) -> tuple[Array, ...]:
    """The last axis of ``indices`` taken apart: one array for each of the first axes of ``x``."""
    if not indices.ndim or not 1 <= indices.shape[-1] <= x.ndim:
        raise OpError(f"indices of shape {list(indices.shape)} are not for {list(x.shape)}")
    at = tuple(indices[..., i].astype(np.int64) for i in range(indices.shape[-1]))
    for part, size in zip(at, x.shape, strict=False):
        _check_range(part, size)
    return at


@op(
    data=tensor(NUMBER),
    indices=tensor(INT32),
    updates=tensor(NUMBER),
    axis=integer(0),
    mode=_MODE,
    validate_indices=flag(False),
)
def scatter(data: Array, indices: Array, updates: Array, axis: int, mode: str, validate_indices: bool) -> Array:
    along = axis_of(axis, data.ndim)
    _check_range(indices, data.shape[along])
    if updates.shape != data.shape[:along] + indices.shape + data.shape[along + 1 :] or indices.ndim != 1:
        raise OpError(f"updates of shape {list(updates.shape)} do not fit {list(data.shape)} along axis {along}")
    return _put(data, (slice(None),) * along + (indices,), updates, mode)


@op(
    data=tensor(NUMBER),
    indices=tensor(INT32),
    updates=tensor(NUMBER),
    axis=integer(0),
    mode=_MODE,
    validate_indices=flag(False),
)
def scatter_along_axis(
    data: Array, indices: Array, updates: Array, axis: int, mode: str, validate_indices: bool
) -> Array:
    along = _check_along(data, indices, axis)
    if updates.shape != indices.shape:
        raise OpError(f"updates of shape {list(updates.shape)} for indices of {list(indices.shape)}")
    at = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    at[along] = indices
    return _put(data, tuple(at), updates, mode)


@op(data=tensor(NUMBER), indices=tensor(INT32), updates=tensor(NUMBER), mode=_MODE, validate_indices=flag(False))
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str, validate_indices: bool) -> Array:
    at = _coordinates(data, indices)
    if updates.shape != indices.shape[:-1] + data.shape[len(at) :]:
        raise OpError(f"updates of shape {list(updates.shape)} do not fit indices of {list(indices.shape)}")
    return _put(data, at, updates, mode)


def _put(data: Array, at: tuple[Any, ...], updates: Array, mode: str) -> Array:
    """A copy of ``data`` with the updates in it; several into one fp16 element add up in float32."""
    if mode == "div" and data.dtype == np.int32:
        raise OpError("division of integers is not known to this interpreter")
    half = data.dtype == np.float16
    result = data.astype(np.float32) if half else data.copy()
    _MODES[mode](result, at, updates)
    return result.astype(np.float16) if half else result
