"""Ops that make tensors, or give the elements of one another shape or order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeslm.engines.coreml_interpreter.budget import Budget
from edgeslm.engines.coreml_interpreter.signature import (
    ANY,
    FILLING,
    FLOAT,
    INT32,
    NUMBER,
    PLAIN,
    SMALL_INT,
    axes_of,
    axis_of,
    flag,
    integer,
    ints,
    op,
    tensor,
    tensors,
    text,
)
from edgeslm.engines.coreml_interpreter.types import Array, OpError

Axes = tuple[int, ...]


@op(x=tensor(PLAIN))
def shape(x: Array) -> Array:
    return np.array(x.shape, np.int32)


@op(start=tensor(NUMBER), end=tensor(NUMBER), step=tensor(NUMBER))
def range_1d(budget: Budget, start: Array, end: Array, step: Array) -> Array:
    if start.ndim or end.ndim or step.ndim:
        raise OpError("start, end and step: expected single values")
    first, last, by = start.item(), end.item(), step.item()
    if not by or not all(map(math.isfinite, (first, last, by))):
        raise OpError(f"no range goes from {first} to {last} by {by}")
    count = max(0, math.ceil((last - first) / by))
    budget.tensor((count,))
    return np.asarray(first + by * np.arange(count), start.dtype)


@op(shape=ints(), value=tensor(PLAIN, const=True, optional=True))
def fill(budget: Budget, shape: Axes, value: Array | None) -> Array:
    if any(d <= 0 for d in shape) or (value is not None and value.ndim):
        raise OpError(f"cannot fill shape {list(shape)} with {value}")
    budget.tensor(shape)
    return np.full(shape, np.float32(0) if value is None else value)


@op(ref_tensor=tensor(PLAIN), value=tensor(FILLING, const=True, optional=True))
def fill_like(ref_tensor: Array, value: Array | None) -> Array:
    if value is not None and value.ndim:
        raise OpError("value: expected a single one")
    return np.full(ref_tensor.shape, np.float32(0) if value is None else value)


@op(x=tensor(ANY), shape=ints(SMALL_INT))
def reshape(x: Array, shape: Axes) -> Array:
    # A zero takes the dimension of x at the same place, counted from the right.
    wanted = [x.shape[i - len(shape)] if d == 0 and len(shape) - i <= x.ndim else d for i, d in enumerate(shape)]
    wanted = [1 if d == 0 else d for d in wanted]
    known = math.prod(d for d in wanted if d != -1)
    if -1 in wanted and known > 0:
        wanted[wanted.index(-1)] = x.size // known
    if any(d < 0 for d in wanted) or math.prod(wanted) != x.size:
        raise OpError(f"{list(x.shape)} does not reshape to {list(shape)}")
    return x.reshape(wanted)


@op(x=tensor(ANY), axes=ints(const=True))
def expand_dims(x: Array, axes: Axes) -> Array:
    return np.expand_dims(x, axes_of(axes, x.ndim + len(axes)))


@op(x=tensor(ANY), axes=ints(const=True, optional=True))
def squeeze(x: Array, axes: Axes | None) -> Array:
    chosen = range(x.ndim) if axes is None else axes_of(axes, x.ndim)
    return x.squeeze(tuple(a for a in chosen if x.shape[a] == 1))  # others stay, as documented


@op(x=tensor(ANY), perm=ints(const=True))
def transpose(x: Array, perm: Axes) -> Array:
    if len(perm) != x.ndim:
        raise OpError(f"perm {list(perm)} is not for a tensor of rank {x.ndim}")
    return x.transpose(axes_of(perm, x.ndim))


@op(values=tensors(), axis=integer(), interleave=flag(False))
def concat(budget: Budget, values: Sequence[Array], axis: int, interleave: bool) -> Array:
    if values[0].ndim == 0:  # single values make a vector
        values = [v.reshape(1) if not v.ndim else v for v in values]
    along = axis_of(axis, values[0].ndim)
    _check_equal([v.shape[:along] + v.shape[along + 1 :] for v in values])
    if interleave:
        _check_equal([v.shape for v in values])
    total = list(values[0].shape)
    total[along] = sum(v.shape[along] for v in values)
    budget.tensor(total)
    return np.stack(values, along + 1).reshape(total) if interleave else np.concatenate(values, along)


@op(values=tensors(), axis=integer())
def stack(budget: Budget, values: Sequence[Array], axis: int) -> Array:
    _check_equal([v.shape for v in values])
    along = axis_of(axis, values[0].ndim + 1)
    budget.tensor((len(values), *values[0].shape))
    return np.stack(values, along)


def _check_equal(shapes: list[tuple[int, ...]]) -> None:
    if any(s != shapes[0] for s in shapes):
        raise OpError(f"these shapes do not go together: {', '.join(str(list(s)) for s in shapes[:8])}")


@op(
    x=tensor(PLAIN),
    num_splits=integer(None),
    split_sizes=ints(const=True, optional=True),
    axis=integer(),
)
def split(x: Array, num_splits: int | None, split_sizes: Axes | None, axis: int) -> list[Array]:
    along = axis_of(axis, x.ndim)
    length = x.shape[along]
    if split_sizes is None:
        if num_splits is None or num_splits < 1 or length % num_splits:
            raise OpError(f"{length} does not split into {num_splits} equal parts")
        split_sizes = (length // num_splits,) * num_splits
    if sum(split_sizes) != length or min(split_sizes, default=0) < 1 or num_splits not in (None, len(split_sizes)):
        raise OpError(f"{length} does not split into {list(split_sizes)[:8]}")
    return np.split(x, np.cumsum(split_sizes)[:-1], along)


@op(x=tensor(PLAIN), reps=ints())
def tile(budget: Budget, x: Array, reps: Axes) -> Array:
    if len(reps) != x.ndim or not reps or min(reps) < 1:
        raise OpError(f"reps {list(reps)} are not for a tensor of shape {list(x.shape)}")
    budget.tensor([d * r for d, r in zip(x.shape, reps, strict=True)])
    return np.tile(x, reps)


@op(x=tensor(PLAIN), lower=integer(-1), upper=integer(-1))
def band_part(x: Array, lower: int, upper: int) -> Array:
    if x.ndim < 2:
        raise OpError("expected a matrix, or several")
    below = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    inside = ((below <= lower) | (lower < 0)) & ((-below <= upper) | (upper < 0))
    return np.where(inside, x, x.dtype.type(0))


@op(
    x=tensor(FLOAT),
    pad=ints(),
    mode=text("constant", "reflect", "replicate", default="constant"),
    constant_val=tensor(FLOAT, const=True, optional=True),
)
def pad(budget: Budget, x: Array, pad: Axes, mode: str, constant_val: Array | None) -> Array:
    """``pad`` holds (before, after) of the last dimensions."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim or min(pad, default=0) < 0:
        raise OpError(f"pad {list(pad)} is not for a tensor of rank {x.ndim}")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))
    budget.tensor([d + a + b for d, (a, b) in zip(x.shape, widths, strict=True)])
    if mode == "constant":
        return np.pad(x, widths, constant_values=0 if constant_val is None else constant_val.item())
    most = [d - 1 if mode == "reflect" else d for d in x.shape]
    if any(max(w) > m for w, m in zip(widths, most, strict=True)):
        raise OpError(f"{mode} cannot pad {list(x.shape)} by {list(pad)}")
    return np.pad(x, widths, "reflect" if mode == "reflect" else "edge")


@op(
    indices=tensor(INT32),
    one_hot_vector_size=tensor(INT32),
    axis=integer(-1),
    on_value=tensor(PLAIN, const=True, optional=True),
    off_value=tensor(PLAIN, const=True, optional=True),
)
def one_hot(
    budget: Budget,
    indices: Array,
    one_hot_vector_size: Array,
    axis: int,
    on_value: Array | None,
    off_value: Array | None,
) -> Array:
    size = one_hot_vector_size.item() if one_hot_vector_size.ndim == 0 else 0
    if size < 1 or (indices.size and not 0 <= indices.min() <= indices.max() < size):
        raise OpError(f"indices do not lie in 0..{size - 1}")
    budget.tensor((*indices.shape, size))
    on = np.int32(1) if on_value is None else on_value
    off = np.zeros((), on.dtype) if off_value is None else off_value
    hot = np.where(indices[..., None] == np.arange(size), on, off)
    return np.moveaxis(hot, -1, axis_of(axis, hot.ndim))
