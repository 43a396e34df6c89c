"""Products of matrices: linear, matmul, convolution, attention, and the constants that they read.

fp16 is multiplied and summed in float32 and rounded once. Attention keeps its scores and weights in float32.
"""

from __future__ import annotations

import math

import numpy as np

from edgeslm.engines.coreml_interpreter.blobs import Weight
from edgeslm.engines.coreml_interpreter.budget import Budget
from edgeslm.engines.coreml_interpreter.ops.elementwise import in_float32
from edgeslm.engines.coreml_interpreter.ops.reduce import softmax_of
from edgeslm.engines.coreml_interpreter.signature import (
    FLOAT,
    Domain,
    broadcast,
    domain,
    flag,
    integer,
    ints,
    op,
    tensor,
    text,
)
from edgeslm.engines.coreml_interpreter.types import Array, OpError, f32

MASK: Domain = domain("M", "bool", "fp16", "fp32")
WEIGHT: Domain = domain("U", "fp16", "fp32")
BLOCK_ELEMENTS = 1 << 20  # of a weight in float32 at a time: 4 MB


@op(x=tensor(FLOAT), weight=tensor(WEIGHT, const=True, weight=True), bias=tensor(WEIGHT, const=True, optional=True))
def linear(budget: Budget, x: Array, weight: Array | Weight, bias: Array | None) -> Array:
    if not 1 <= x.ndim <= 3 or len(weight.shape) != 2 or x.shape[-1] != weight.shape[1]:
        raise OpError(f"x of shape {list(x.shape)} and weight of {list(weight.shape)}")
    n, k = weight.shape
    if bias is not None and bias.shape != (n,):
        raise OpError(f"bias of shape {list(bias.shape)} for {n} outputs")
    shape = (*x.shape[:-1], n)
    budget.tensor(shape)
    budget.spend(math.prod(shape) * k)
    rows, y = f32(x).reshape(-1, k), np.empty((math.prod(x.shape[:-1]), n), np.float32)
    step = max(1, BLOCK_ELEMENTS // k)
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        part = weight.float_rows(block.start, block.stop) if isinstance(weight, Weight) else f32(weight[block])
        np.matmul(rows, part.T, out=y[:, block])
    y = y if bias is None else y + f32(bias)
    return y.reshape(shape).astype(x.dtype, copy=False)


@op(x=tensor(FLOAT), y=tensor(FLOAT), transpose_x=flag(False), transpose_y=flag(False))
def matmul(budget: Budget, x: Array, y: Array, transpose_x: bool, transpose_y: bool) -> Array:
    if not x.ndim or not y.ndim or (transpose_x and x.ndim == 1) or (transpose_y and y.ndim == 1):
        raise OpError(f"x of shape {list(x.shape)} and y of {list(y.shape)}")
    a = x.swapaxes(-1, -2) if transpose_x else x
    b = y.swapaxes(-1, -2) if transpose_y else y
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise OpError(f"x of shape {list(a.shape)} and y of {list(b.shape)} have no common inner size")
    outer = broadcast(a.shape[:-2], b.shape[:-2])
    shape = outer + a.shape[-2:-1] + (b.shape[-1:] if b.ndim > 1 else ())
    budget.tensor(shape)
    budget.spend(math.prod(shape) * inner)
    return np.asarray(np.matmul(f32(a), f32(b)), x.dtype)


@op(query=tensor(FLOAT), key=tensor(FLOAT), value=tensor(FLOAT), attn_mask=tensor(MASK, optional=True))
def scaled_dot_product_attention(
    budget: Budget, query: Array, key: Array, value: Array, attn_mask: Array | None
) -> Array:
    """softmax(query · keyᵀ / √E + mask) · value; a mask of truths lets those that are true take part."""
    q, k, v = query, key, value
    if not (
        q.ndim == k.ndim == v.ndim >= 3
        and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        and q.shape[-1] == k.shape[-1]
        and k.shape[-2] == v.shape[-2]
    ):
        raise OpError(f"query {list(q.shape)}, key {list(k.shape)} and value {list(v.shape)} do not go together")
    scores_shape = q.shape[:-1] + k.shape[-2:-1]
    budget.tensor(scores_shape)
    budget.spend(math.prod(scores_shape) * (q.shape[-1] + v.shape[-1]))
    scores = np.matmul(f32(q), f32(k).swapaxes(-1, -2)) / np.float32(math.sqrt(q.shape[-1]))
    if attn_mask is not None:
        _check_mask(attn_mask, scores_shape)
        added = np.where(attn_mask, np.float32(0), np.float32(-np.inf)) if attn_mask.dtype == bool else f32(attn_mask)
        scores = scores + added
    return np.asarray(np.matmul(softmax_of(scores, -1), f32(v)), q.dtype)


def _check_mask(mask: Array, scores: tuple[int, ...]) -> None:
    if not mask.ndim or mask.shape[-1] != scores[-1] or broadcast(mask.shape, scores) != scores:
        raise OpError(f"attn_mask of shape {list(mask.shape)} does not broadcast to {list(scores)}")


@op(
    x=tensor(FLOAT),
    weight=tensor(WEIGHT),
    bias=tensor(WEIGHT, const=True, optional=True),
    strides=ints(const=True, optional=True),
    pad_type=text("valid", "custom", default="valid"),
    pad=ints(const=True, optional=True),
    dilations=ints(const=True, optional=True),
    groups=integer(1),
)
def conv(
    budget: Budget,
    x: Array,
    weight: Array,
    bias: Array | None,
    strides: tuple[int, ...] | None,
    pad_type: str,
    pad: tuple[int, ...] | None,
    dilations: tuple[int, ...] | None,
    groups: int,
) -> Array:
    """Over one spatial dimension: x (n, C_in, d), weight (C_out, C_in / groups, k) → (n, C_out, d_out)."""
    steps, gaps, added = strides or (1,), dilations or (1,), (pad if pad_type == "custom" else None) or (0, 0)
    if not x.ndim == weight.ndim == 3 or min(*steps, *gaps, groups) < 1 or min(added) < 0:
        raise OpError(f"x of shape {list(x.shape)} and weight of {list(weight.shape)}; expected one spatial dimension")
    if (len(steps), len(gaps), len(added)) != (1, 1, 2):
        raise OpError(f"strides {list(steps)}, dilations {list(gaps)}, pad {list(added)}: not for one dimension")
    (n, c_in, d), (c_out, per_group, k) = x.shape, weight.shape
    (stride,), (dilation,), (before, after) = steps, gaps, added
    if c_in != per_group * groups or c_out % groups or (bias is not None and bias.shape != (c_out,)):
        raise OpError(f"{c_in} channels in {groups} groups do not fit weight of {list(weight.shape)}")
    reach = (k - 1) * dilation + 1
    d_out = (d + before + after - reach) // stride + 1
    if d_out < 1:
        raise OpError(f"{d} elements are fewer than the kernel reaches, {reach}")
    budget.tensor((n, c_in, d + before + after, k))
    budget.tensor((n, c_out, d_out))
    budget.spend(n * c_out * d_out * per_group * k)

    def convolve(v: Array, w: Array) -> Array:
        padded = np.pad(v, ((0, 0), (0, 0), (before, after)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, 2)[:, :, ::stride, ::dilation]
        split = windows.reshape(n, groups, per_group, d_out, k)
        y = np.einsum("ngcdk,gock->ngod", split, w.reshape(groups, c_out // groups, per_group, k))
        y = y.reshape(n, c_out, d_out)
        return np.asarray(y if bias is None else y + f32(bias)[:, None])

    return in_float32(convolve, x, f32(weight))
