"""What each operator may be given, so that no kernel reads or writes outside of its tensors.

The set is what a decoder needs. A result's type and shape are worked out from the operands, to be compared with the
declared ones. Numbers are those of BuiltinOperator and BuiltinOptions in LiteRT's schema.fbs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeslm.tflite.model import MAX_OPERANDS, Tensor

Shape = tuple[int, ...]
Result = tuple[str, Shape]

ADD, CONCATENATION, EMBEDDING_LOOKUP, FULLY_CONNECTED, LOGISTIC, MUL = 0, 2, 7, 9, 14, 18
RESHAPE, SOFTMAX, TANH, GATHER, TRANSPOSE, MEAN, SUB = 22, 25, 28, 36, 39, 40, 41
CAST, MAXIMUM, LESS, NEG, SLICE, RSQRT, REDUCE_MAX = 53, 55, 58, 59, 65, 76, 82
BATCH_MATMUL, GELU, DYNAMIC_UPDATE_SLICE = 126, 150, 151


class MisfitError(Exception):
    """Operands that a kernel must not be given."""


@dataclass(frozen=True)
class Node:
    """One operator with the values of its options; an operand that is left out is None."""

    code: int
    options: tuple[int, ...]
    inputs: tuple[Tensor | None, ...]

    def operands(self, *dtypes: str) -> list[Tensor]:
        """The inputs, which are as many, and of these types."""
        found = [t for t in self.inputs if t is not None]
        types = tuple(t.dtype for t in found)
        need(len(found) == len(self.inputs) and types == dtypes, f"operands of types {types}; expected {dtypes}")
        return found

    @property
    def first(self) -> str:
        """The type of the first operand: int32, or else what only float32 may be."""
        integer = bool(self.inputs) and self.inputs[0] is not None and self.inputs[0].dtype == "int32"
        return "int32" if integer else "float32"


def need(condition: bool, problem: str) -> None:
    if not condition:
        raise MisfitError(problem)


def _numbers(tensor: Tensor) -> Shape:
    need(tensor.numbers != (), f"{tensor.dtype} {tensor.shape} where a short constant belongs")
    return tensor.numbers


def _binary(node: Node) -> Result:
    """Two operands that broadcast."""
    need(node.options[:1] in ((), (0,)), "a fused activation")
    dtype = "float32" if node.code == MUL else node.first
    a, b = node.operands(dtype, dtype)
    return "bool" if node.code == LESS else dtype, _broadcast(a.shape, b.shape)


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    need(all(x == y or 1 in (x, y) for x, y in pairs), f"shapes {a} and {b} do not fit")
    return tuple(max(pair) for pair in pairs)


def _unary(node: Node) -> Result:
    (x,) = node.operands("float32")
    need(len(x.shape) > 0, "a single number")
    return x.dtype, x.shape


def _cast(node: Node) -> Result:
    """Of comparisons to numbers."""
    (x,) = node.operands("bool")
    need(node.options == (6, 0), "a cast of other types")  # TensorType: bool, float32
    return "float32", x.shape


def _reduction(node: Node) -> Result:
    """Along one dimension, which stays with 1 element."""
    dtype = "int32" if node.code == REDUCE_MAX else "float32"
    x, axes = node.operands(dtype, "int32")
    numbers = _numbers(axes)
    need(len(numbers) == 1 and 0 <= numbers[0] < len(x.shape), f"a reduction of {x.shape} along {numbers}")
    need(node.options == (1,), "a reduction that drops a dimension")
    return dtype, (*x.shape[: numbers[0]], 1, *x.shape[numbers[0] + 1 :])


def _reshape(node: Node) -> Result:
    x, target = node.operands(node.first, "int32")
    shape = _numbers(target)
    good = node.options in ((), shape) and min(shape) > 0 and math.prod(shape) == x.elements
    need(good, f"a change of shape from {x.shape} to {shape}")
    return x.dtype, shape


def _transpose(node: Node) -> Result:
    x, permutation = node.operands("float32", "int32")
    order = _numbers(permutation)
    need(sorted(order) == list(range(len(x.shape))), f"a transposition of {x.shape} by {order}")
    return x.dtype, tuple(x.shape[i] for i in order)


def _slice(node: Node) -> Result:
    x, start, length = node.operands(node.first, "int32", "int32")
    begin, size = _numbers(start), _numbers(length)
    good = len(begin) == len(size) == len(x.shape)
    good = good and all(b >= 0 and 0 < n <= d - b for b, n, d in zip(begin, size, x.shape, strict=True))
    need(good, f"a slice of {x.shape} from {begin}, {size} long")
    return x.dtype, size


def _concatenation(node: Node) -> Result:
    need(0 < len(node.inputs) <= MAX_OPERANDS, "a concatenation of nothing")
    parts = node.operands(*[node.first] * len(node.inputs))
    (axis, activation), first = node.options, parts[0].shape
    need(0 <= axis < len(first) and not activation, f"a concatenation of {first} along {axis}")
    rest = {(*p.shape[:axis], 0, *p.shape[axis + 1 :]) for p in parts}
    need(len(rest) == 1, f"a concatenation of {[p.shape for p in parts]} along {axis}")
    return node.first, (*first[:axis], sum(p.shape[axis] for p in parts), *first[axis + 1 :])


def _gather(node: Node) -> Result:
    """Rows of a constant table; whoever walks the graph sees to it that the places are inside."""
    table, places = node.operands("float32", "int32")
    need(node.options == (0, 0), "a gather along another dimension")
    return _lookup(table, places)


def _embedding(node: Node) -> Result:
    places, table = node.operands("int32", _weight_type(node))
    return _lookup(table, places)


def _lookup(table: Tensor, places: Tensor) -> Result:
    good = table.constant and len(table.shape) == 2 and len(places.shape) == 1
    need(good, f"a look-up of {places.shape} in {table.shape}")
    return "float32", (places.shape[0], table.shape[1])


def _linear(node: Node) -> Result:
    activation, layout, keep, _ = node.options
    need((activation, layout, keep) == (0, 0, 1), "a linear of another form")
    x, w = Node(node.code, (), node.inputs[:2]).operands("float32", _weight_type(node))
    good = w.constant and len(x.shape) == len(w.shape) == 2 and x.shape[1] == w.shape[1]
    need(good, f"a linear of {x.shape} and {w.shape}")
    bias = Tensor(w.shape[:1], "float32", True)
    need(node.inputs[2:] in ((None,), (bias,)), f"a bias that is not {bias.shape}")
    return "float32", (x.shape[0], w.shape[0])


def _weight_type(node: Node) -> str:
    """Of the second operand, if it is one that weights have."""
    found = node.inputs[1].dtype if len(node.inputs) > 1 and node.inputs[1] is not None else ""
    return found if found in ("int8", "int4") else "float32"


def _matmul(node: Node) -> Result:
    a, b = node.operands("float32", "float32")
    need(node.options[0] == 0 and node.options[1] in (0, 1), "a product of another form")
    inner, outer = (b.shape[-1:], b.shape[-2:-1]) if node.options[1] else (b.shape[-2:-1], b.shape[-1:])
    good = len(a.shape) == len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1:] == inner
    need(good, f"a product of {a.shape} and {b.shape}")
    return "float32", (*a.shape[:-1], *outer)


def _update(node: Node) -> Result:
    """The kernel moves rows that would lie outside to the nearest place where they fit."""
    x, rows, start = node.operands("float32", "float32", "int32")
    good = len(x.shape) == len(rows.shape) > 0 and start.shape == (len(x.shape),)
    good = good and all(r <= d for r, d in zip(rows.shape, x.shape, strict=True))
    need(good, f"rows {rows.shape} written into {x.shape}")
    return "float32", x.shape


@dataclass(frozen=True)
class Kind:
    """How an operator is checked; its options' kind (0: it has none), and the sizes of their fields in bytes.

    A size of 0 is a list of int32, which is the only field then.
    """

    result: Callable[[Node], Result]
    options: int = 0
    fields: tuple[int, ...] = ()


KINDS = {
    ADD: Kind(_binary, 11, (1, 1)),
    SUB: Kind(_binary, 28, (1, 1)),
    MUL: Kind(_binary, 21, (1,)),
    MAXIMUM: Kind(_binary, 39),
    LESS: Kind(_binary, 41),
    LOGISTIC: Kind(_unary),
    TANH: Kind(_unary),
    RSQRT: Kind(_unary),
    NEG: Kind(_unary, 42),
    GELU: Kind(_unary, 116, (1,)),
    SOFTMAX: Kind(_unary, 9, (4,)),
    CAST: Kind(_cast, 37, (1, 1)),
    MEAN: Kind(_reduction, 27, (1,)),
    REDUCE_MAX: Kind(_reduction, 27, (1,)),
    RESHAPE: Kind(_reshape, 17, (0,)),
    TRANSPOSE: Kind(_transpose, 26),
    SLICE: Kind(_slice, 48),
    CONCATENATION: Kind(_concatenation, 10, (4, 1)),
    GATHER: Kind(_gather, 23, (4, 4)),
    EMBEDDING_LOOKUP: Kind(_embedding),
    FULLY_CONNECTED: Kind(_linear, 8, (1, 1, 1, 1)),
    BATCH_MATMUL: Kind(_matmul, 101, (1, 1, 1)),
    DYNAMIC_UPDATE_SLICE: Kind(_update, 117),
}
