"""Ops that cut a part out of a tensor, or put one in."""

from __future__ import annotations

import numpy as np

from edgeslm.engines.coreml_interpreter.signature import ANY, SMALL_INT, flags, ints, op, tensor
from edgeslm.engines.coreml_interpreter.types import Array, OpError

Numbers = tuple[int, ...]
Flags = tuple[bool, ...]
Part = tuple[slice | int, ...]

_SLICE = {
    "begin": ints(SMALL_INT),
    "end": ints(SMALL_INT),
    "stride": ints(SMALL_INT, const=True, optional=True),
    "begin_mask": flags(),
    "end_mask": flags(),
    "squeeze_mask": flags(),
}


@op(x=tensor(ANY), **_SLICE)
def slice_by_index(
    x: Array,
    begin: Numbers,
    end: Numbers,
    stride: Numbers | None,
    begin_mask: Flags | None,
    end_mask: Flags | None,
    squeeze_mask: Flags | None,
) -> Array:
    return np.asarray(x[_part(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@op(x=tensor(ANY), update=tensor(ANY), **_SLICE)
def slice_update(
    x: Array,
    update: Array,
    begin: Numbers,
    end: Numbers,
    stride: Numbers | None,
    begin_mask: Flags | None,
    end_mask: Flags | None,
    squeeze_mask: Flags | None,
) -> Array:
    part = _part(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if not update.ndim or x[part].shape != update.shape:
        raise OpError(f"update has shape {list(update.shape)}, and the slice {list(x[part].shape)}")
    result = x.copy()
    result[part] = update
    return result


@op(x=tensor(ANY), begin=ints(SMALL_INT), size=ints(SMALL_INT))
def slice_by_size(x: Array, begin: Numbers, size: Numbers) -> Array:
    if not len(begin) == len(size) == x.ndim:
        raise OpError(f"begin and size are not for a tensor of rank {x.ndim}")
    part = []
    for b, n, length in zip(begin, size, x.shape, strict=True):
        first = b + length if b < 0 else b
        last = length if n == -1 else first + n
        if not 0 <= first < last <= length:
            raise OpError(f"begin {list(begin)}, size {list(size)} reach outside of {list(x.shape)}")
        part.append(slice(first, last))
    return x[tuple(part)]


def _part(
    x: Array,
    begin: Numbers,
    end: Numbers,
    stride: Numbers | None,
    begin_mask: Flags | None,
    end_mask: Flags | None,
    squeeze_mask: Flags | None,
) -> Part:
    """What to index ``x`` with: as NumPy slices, but bounds outside of the tensor are errors and not moved inside."""
    none, rank = (False,) * x.ndim, x.ndim
    steps = stride or (1,) * rank
    masks = [mask or none for mask in (begin_mask, end_mask, squeeze_mask)]
    if any(len(v) != rank for v in (begin, end, steps, *masks)):
        raise OpError(f"begin, end, stride and masks are not all of length {rank}, the rank of x")
    return tuple(_one(*axis) for axis in zip(x.shape, begin, end, steps, *masks, strict=True))


def _one(length: int, begin: int, end: int, step: int, from_start: bool, to_end: bool, single: bool) -> slice | int:
    first = None if from_start else begin
    last = None if to_end else end
    if single:
        first, last = first or 0, None
    highest = length - 1 if single or step < 0 else length
    if (first is not None and not -length <= first <= highest) or (last is not None and not -length <= last <= length):
        raise OpError(f"begin {begin}, end {end} reach outside of a dimension of {length}")
    if not step:
        raise OpError("stride 0")
    return first if single and first is not None else slice(first, last, step)
