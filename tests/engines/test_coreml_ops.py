"""Each op of the MIL interpreter against values worked out here, from Apple's documented examples and formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil import Const, Model, Stored, dtype_of, feeds, one_op

from edgeslm.engines.coreml_interpreter.budget import Limits
from edgeslm.engines.coreml_interpreter.interpreter import Interpreter
from edgeslm.engines.coreml_interpreter.program import read_function
from edgeslm.engines.coreml_interpreter.signature import OPS
from edgeslm.errors import BundleError, EngineError

Arrays = np.ndarray[Any, Any]


def linked(model: Model, limits: Limits | None = None) -> Interpreter:
    file = np.frombuffer(bytes(model.weights), np.uint8)
    return Interpreter(read_function(model.message, "", lambda name: file), limits)


def run(kind: str, arguments: dict[str, Any], *outputs: tuple[str, tuple[int | None, ...]]) -> list[Arrays]:
    interpreter = linked(one_op(kind, arguments, *outputs))
    found, _ = interpreter.run(feeds(arguments), {})
    return [found[f"out_{i}"] for i in range(len(outputs))]


def f32(*values: Any) -> Arrays:
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def f16(*values: Any) -> Arrays:
    return np.array(values[0] if len(values) == 1 else values, np.float16)


def i32(*values: Any) -> Arrays:
    return np.array(values[0] if len(values) == 1 else values, np.int32)


def ints(*values: int) -> Const:
    return Const(np.array(values, np.int32))


def one(value: int) -> Const:
    return Const(np.int32(value))


def yes(*values: bool) -> Const:
    return Const(np.array(values) if len(values) > 1 else np.bool_(values[0]))


R = np.random.default_rng(0)
X = R.standard_normal((2, 3, 4)).astype(np.float32)
M = R.standard_normal((3, 5)).astype(np.float32)
B = np.array([[True, False], [False, True]])


def case(kind: str, arguments: dict[str, Any], *expected: Arrays) -> Any:
    return pytest.param(kind, arguments, expected, id=f"{kind}-{'-'.join(arguments)}")


UNARY = {
    "abs": abs,
    "sign": lambda v: (v > 0) - (v < 0),
    "square": lambda v: v * v,
    "exp": math.exp,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "floor": math.floor,
    "ceil": math.ceil,
    "erf": math.erf,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "silu": lambda v: v / (1 + math.exp(-v)),
    "relu": lambda v: max(v, 0.0),
    "softplus": lambda v: math.log(1 + math.exp(v)),
    "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "maximum": max,
    "minimum": min,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "floor_div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
}


@pytest.mark.parametrize("kind", UNARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_unary_ops(kind: str, dtype: type) -> None:
    values = np.array([-3.7, -1.0, -0.2, 0.0, 0.3, 1.5, 6.1], dtype)
    expected = np.array([UNARY[kind](float(v)) for v in values], dtype)
    name = "fp16" if dtype is np.float16 else "fp32"
    (found,) = run(kind, {"x": values}, (name, (7,)))
    assert np.allclose(found, expected, rtol=1e-6 if dtype is np.float32 else 2e-3, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("kind", BINARY)
def test_binary_ops_broadcast(kind: str) -> None:
    a, b = i32([[-7], [2], [5]]), i32([[2, -3, 5]])
    rows = [[BINARY[kind](int(x), int(y)) for y in b[0]] for x in a[:, 0]]
    logical = isinstance(rows[0][0], bool)
    (found,) = run(kind, {"x": a, "y": b}, ("bool" if logical else "int32", (3, 3)))
    assert found.tolist() == rows
    if kind not in ("floor_div", "mod"):
        (found,) = run(kind, {"x": f16(a), "y": Const(f16(b))}, ("bool" if logical else "fp16", (3, 3)))
        assert found.tolist() == rows


CASES = [
    case("real_div", {"x": f32(1, 4), "y": f32(4, 0)}, f32(0.25, np.inf)),
    case("pow", {"x": f32(2, 9), "y": Const(np.float32(0.5))}, f32(math.sqrt(2), 3)),
    case("round", {"x": f32(0.5, 1.5, -2.5, 2.6)}, f32(0, 2, -2, 3)),
    case("logical_and", {"x": B, "y": ~B.T}, B & ~B.T),
    case("logical_or", {"x": B, "y": ~B}, B | ~B),
    case("logical_xor", {"x": B, "y": np.array([True, True])}, ~B),
    case("logical_not", {"x": B}, ~B),
    case("identity", {"x": X}, X),
    case("clip", {"x": f32(-2, 0.5, 9), "alpha": Const(np.float32(-1)), "beta": Const(np.float32(2))}, f32(-1, 0.5, 2)),
    case("rsqrt", {"x": f32(4, 0), "epsilon": Const(np.float32(0.25))}, f32(4.25**-0.5, 2)),
    case("inverse", {"x": f32(1.9999)}, f32(0.5)),  # the default epsilon is 1e-4
    case("log", {"x": f32(math.e, 0.5)}, f32(1, math.log(0.5))),
    case("select", {"cond": B, "a": f32([1, 2]), "b": Const(np.float32(-1))}, f32([[1, -1], [-1, 2]])),
    case("cast", {"x": f32(-1.9, 2.9), "dtype": Const("int32")}, i32(-1, 2)),
    case("cast", {"x": i32(2049, 70000), "dtype": Const("fp16")}, f16(2048, np.inf)),  # what fp16 positions become
    case("cast", {"x": f32(0, -3), "dtype": Const("bool")}, np.array([False, True])),
    case("gelu", {"x": f32(-1, 2)}, f32([-0.15865525, 1.9544997])),
    case("gelu", {"x": f32(-1, 2), "mode": Const("TANH_APPROXIMATION")}, f32([-0.15880801, 1.9545977])),
    case("gelu", {"x": f32(2), "mode": Const("SIGMOID_APPROXIMATION")}, f32(2 / (1 + math.exp(-3.404)))),
    case("reduce_sum", {"x": X}, f32(X.astype(np.float64).sum())),
    case("reduce_mean", {"x": X, "axes": ints(-1), "keep_dims": yes(True)}, X.mean(-1, keepdims=True)),
    case("reduce_max", {"x": X, "axes": ints(0, 2)}, X.max((0, 2))),
    case("reduce_min", {"x": i32([[3, 1], [2, 5]]), "axes": ints(0)}, i32(2, 1)),
    case("reduce_prod", {"x": f32(2, 3, 4), "axes": ints(0)}, f32(24.0)),
    case("reduce_sum_square", {"x": f32([[1, 2], [3, 4]]), "axes": ints(1)}, f32(5, 25)),
    case("reduce_l2_norm", {"x": f32([[3, 4]]), "axes": ints(1)}, f32([5])),
    case("reduce_log_sum_exp", {"x": f32([[1000, 1000]]), "axes": ints(1)}, f32([1000 + math.log(2)])),
    case("reduce_argmax", {"x": f32([[1, 9, 3], [7, 2, 3]])}, i32(1, 0)),
    case(
        "reduce_argmin",
        {"x": f32([[1, 9], [7, 2]]), "axis": one(0), "keep_dims": yes(True), "output_dtype": Const("uint16")},
        np.array([[0, 1]], np.uint16),
    ),
    case("softmax", {"x": f32([[0, math.log(3)]])}, f32([[0.25, 0.75]])),
    case("softmax", {"x": f16([[0], [-60000]]), "axis": one(0)}, f16([[1], [0]])),
    case(
        "layer_norm",
        {"x": f32([[1, 3]]), "axes": ints(-1), "gamma": Const(f32(2, 2)), "beta": Const(f32(1, 0))},
        f32([[1 - 2 / math.sqrt(1 + 1e-5), 2 / math.sqrt(1 + 1e-5)]]),
    ),
    case("cumsum", {"x": i32([[1, 2, 3]]), "axis": one(1)}, i32([[1, 3, 6]])),
    case("cumsum", {"x": f32([[1, 2, 3]]), "axis": one(1), "exclusive": yes(True)}, f32([[0, 1, 3]])),
    case("cumsum", {"x": f32([1, 2, 3]), "exclusive": yes(True), "reverse": yes(True)}, f32([5, 3, 0])),
    case("argsort", {"x": f32([3, 1, 2])}, i32(0, 2, 1)),
    case("argsort", {"x": f32([[3], [1]]), "axis": one(0), "ascending": yes(True)}, i32([[1], [0]])),
    case("topk", {"x": f32([[3, 1, 2]]), "k": one(2)}, f32([[3, 2]]), i32([[0, 2]])),
    case(
        "topk", {"x": i32([[3, 1, 2]]), "k": one(1), "ascending": yes(True), "return_indices": yes(False)}, i32([[1]])
    ),
    case("shape", {"x": X}, i32(2, 3, 4)),
    case("range_1d", {"start": i32(2), "end": i32(9), "step": one(3)}, i32(2, 5, 8)),
    case("range_1d", {"start": i32(2), "end": i32(-2), "step": one(-3)}, i32(2, -1)),
    case("fill", {"shape": i32(2, 1), "value": Const(np.float16(3))}, f16([[3], [3]])),
    case("fill_like", {"ref_tensor": X, "value": one(7)}, np.full((2, 3, 4), 7, np.int32)),
    case("reshape", {"x": X, "shape": ints(4, -1)}, X.reshape(4, 6)),
    case("reshape", {"x": X, "shape": ints(-1, 0, 0)}, X),
    case("reshape", {"x": X.reshape(6, 4), "shape": ints(2, 3, 0)}, X),  # zeros count from the right
    case("expand_dims", {"x": f32([1, 2]), "axes": ints(0, -1)}, f32([[[1], [2]]])),
    case("squeeze", {"x": f32([[[1, 2]]])}, f32([1, 2])),
    case("squeeze", {"x": f32([[[1, 2]]]), "axes": ints(0, 2)}, f32([[1, 2]])),  # as torch: a dimension of 2 stays
    case("transpose", {"x": X, "perm": ints(1, -1, 0)}, np.einsum("abc->bca", X)),
    case("concat", {"values": [X[:, :1], X[:, 1:]], "axis": one(-2)}, X),
    case("concat", {"values": [one(4), i32(5), one(6)], "axis": one(0)}, i32(4, 5, 6)),
    case(
        "concat",
        {
            "values": [i32([[1, 2], [3, 4], [5, 6]]), i32([[7, 8], [9, 10], [11, 12]])],
            "axis": one(0),
            "interleave": yes(True),
        },
        i32([[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]),
    ),
    case("stack", {"values": [f32([1, 2]), f32([3, 4])], "axis": one(-1)}, f32([[1, 3], [2, 4]])),
    case("split", {"x": X, "num_splits": one(2), "axis": one(-1)}, X[..., :2], X[..., 2:]),
    case("split", {"x": X, "split_sizes": ints(1, 2), "axis": one(1)}, X[:, :1], X[:, 1:]),
    case("tile", {"x": f32([[1, 2]]), "reps": ints(2, 2)}, f32([[1, 2, 1, 2], [1, 2, 1, 2]])),
    case("band_part", {"x": M, "lower": one(-1), "upper": one(0)}, np.tril(M)),
    case("band_part", {"x": M, "lower": one(0), "upper": one(-1)}, np.triu(M)),
    case("pad", {"x": f32([[1, 2]]), "pad": ints(1, 2), "constant_val": Const(np.float32(9))}, f32([[9, 1, 2, 9, 9]])),
    case("pad", {"x": f32([1, 2, 3]), "pad": ints(2, 1), "mode": Const("reflect")}, f32([3, 2, 1, 2, 3, 2])),
    case("pad", {"x": f32([1, 2]), "pad": ints(1, 1), "mode": Const("replicate")}, f32([1, 1, 2, 2])),
    case("one_hot", {"indices": i32([2, 0]), "one_hot_vector_size": one(3)}, i32([[0, 0, 1], [1, 0, 0]])),
    case(
        "one_hot",
        {
            "indices": i32([1]),
            "one_hot_vector_size": one(2),
            "axis": one(0),
            "on_value": Const(np.float16(5)),
            "off_value": Const(np.float16(-1)),
        },
        f16([[-1], [5]]),
    ),
    case(
        "slice_by_index",
        {"x": X, "begin": i32(0, 1, 0), "end": ints(2, 3, 3), "stride": ints(1, 1, 2)},
        X[:, 1:3, 0:3:2],
    ),
    case(
        "slice_by_index",
        {
            "x": X,
            "begin": ints(1, 7, -2),
            "end": ints(0, 9, 9),
            "begin_mask": yes(False, True, False),
            "end_mask": yes(False, True, True),
            "squeeze_mask": yes(True, False, False),
        },
        X[1, :, -2:],
    ),
    case("slice_by_index", {"x": f32([1, 2, 3]), "begin": ints(2), "end": ints(0), "stride": ints(-1)}, f32([3, 2])),
    case("slice_by_size", {"x": X, "begin": i32(1, -2, 0), "size": ints(1, -1, 2)}, X[1:2, -2:, :2]),
    case(
        "slice_update",
        {"x": f32([[1, 2, 3], [4, 5, 6]]), "update": f32([[8, 9]]), "begin": i32(1, 0), "end": i32(2, 2)},
        f32([[1, 2, 3], [8, 9, 6]]),
    ),
    case("gather", {"x": M, "indices": i32([[2, 0]])}, M[[[2, 0]]]),
    case("gather", {"x": M, "indices": i32(1), "axis": one(-1)}, M[:, 1]),
    case(
        "gather",
        {"x": X, "indices": i32([[2], [0]]), "axis": one(1), "batch_dims": one(1)},
        np.stack([X[0, [2]], X[1, [0]]]),
    ),
    case(
        "gather_along_axis",
        {"x": M, "indices": i32([[4, 0], [1, 1], [2, 3]]), "axis": one(1)},
        np.array([[M[0, 4], M[0, 0]], [M[1, 1], M[1, 1]], [M[2, 2], M[2, 3]]]),
    ),
    case("gather_nd", {"x": X, "indices": i32([[1, 2], [0, 0]])}, np.stack([X[1, 2], X[0, 0]])),
    case(  # the documented example
        "scatter",
        {
            "data": i32([[1, 2, 3], [4, 5, 6]]),
            "indices": i32(1, 0),
            "updates": i32([[5, 6, 7], [8, 9, 10]]),
            "mode": Const("add"),
        },
        i32([[9, 11, 13], [9, 11, 13]]),
    ),
    case(
        "scatter",
        {"data": f32([[1, 2, 3]]), "indices": i32([2]), "updates": f32([[9]]), "axis": one(1), "mode": Const("update")},
        f32([[1, 2, 9]]),
    ),
    case("scatter", {"data": f16([1, 2]), "indices": i32(0, 0), "updates": f16(2, 3), "mode": Const("mul")}, f16(6, 2)),
    case(
        "scatter_along_axis",
        {
            "data": f32([[1, 2], [3, 4]]),
            "indices": i32([[1], [0]]),
            "updates": f32([[10], [20]]),
            "axis": one(1),
            "mode": Const("sub"),
        },
        f32([[1, -8], [-17, 4]]),
    ),
    case(
        "scatter_nd",
        {"data": f32([[1, 2], [3, 4]]), "indices": i32([[1, 0]]), "updates": f32([7]), "mode": Const("max")},
        f32([[1, 2], [7, 4]]),
    ),
    case(
        "linear",
        {"x": X, "weight": Const(M.T[:, :3].repeat(2, 1)[:, :4].copy()), "bias": Const(f32(1, 2, 3, 4, 5))},
        np.einsum("abk,nk->abn", X, M.T[:, :3].repeat(2, 1)[:, :4]) + f32(1, 2, 3, 4, 5),
    ),
    case("matmul", {"x": X, "y": M[:, :3], "transpose_x": yes(True)}, np.einsum("bka,kn->ban", X, M[:, :3])),
    case("matmul", {"x": f32([1, 2]), "y": f32([3, 4])}, f32(11.0)),
    case("matmul", {"x": M, "y": M, "transpose_y": yes(True)}, M @ M.T),
    case(
        "conv",
        {
            "x": f32([[[1, 2, 3], [10, 20, 30]]]),
            "weight": Const(f32([[[1, 2]], [[3, 4]]])),
            "groups": one(2),
            "pad_type": Const("custom"),
            "pad": ints(1, 0),
        },
        f32([[[2, 5, 8], [40, 110, 180]]]),
    ),
    case(
        "conv",
        {
            "x": f32([[[1, 2, 3, 4, 5]]]),
            "weight": Const(f32([[[1, 1]]])),
            "bias": Const(f32([0.5])),
            "strides": ints(2),
            "dilations": ints(2),
        },
        f32([[[4.5, 8.5]]]),
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "expected"), CASES)
def test_op(kind: str, arguments: dict[str, Any], expected: tuple[Arrays, ...]) -> None:
    found = run(kind, arguments, *((dtype_of(e), e.shape) for e in expected))
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        assert np.allclose(f, e, rtol=2e-6, atol=1e-6)


def test_every_op_is_tested() -> None:
    here = {c.values[0] for c in CASES} | set(UNARY) | set(BINARY) | {"scaled_dot_product_attention"}
    assert set(OPS) == here


@pytest.mark.parametrize("mask", [None, "bool", "fp16"])
def test_attention(mask: str | None) -> None:
    q, k, v = (R.standard_normal((1, 2, n, 4)).astype(np.float16) for n in (3, 5, 5))
    allowed = np.tril(np.ones((3, 5), bool), 2)
    arguments: dict[str, Any] = {"query": q, "key": k, "value": v}
    if mask:
        arguments["attn_mask"] = allowed if mask == "bool" else np.where(allowed, 0, -3e4).astype(np.float16)
    (found,) = run("scaled_dot_product_attention", arguments, ("fp16", (1, 2, 3, 4)))
    for head in range(2):
        for row in range(3):
            scores = [float(q[0, head, row] @ k[0, head, j].astype(np.float64)) / 2 for j in range(5)]
            weights = np.exp([s if mask is None or allowed[row, j] else -np.inf for j, s in enumerate(scores)])
            expected = (weights / weights.sum()) @ v[0, head].astype(np.float64)
            assert np.abs(found[0, head, row] - expected).max() < 2e-3


def test_fp16_rounds_each_result_and_sums_in_float32() -> None:
    big = np.full((1, 4096), 8, np.float16)
    assert run("mul", {"x": f16(300), "y": f16(300)}, ("fp16", ()))[0] == np.inf  # an RMS norm in fp16 overflows here
    assert run("reduce_mean", {"x": big, "axes": ints(-1)}, ("fp16", (1,)))[0] == 8
    assert run("reduce_sum", {"x": big * 4, "axes": ints(-1)}, ("fp16", (1,)))[0] == np.inf
    assert run("linear", {"x": big, "weight": Const(np.ones((1, 4096), np.float16))}, ("fp16", (1, 1)))[0] == 32768
    assert run("add", {"x": f16(2048), "y": f16(1)}, ("fp16", ()))[0] == 2048


REFUSED = [
    ("gather", {"x": M, "indices": i32([3])}, ("fp32", (1, 5)), "outside of 0..2"),
    ("gather", {"x": M, "indices": i32([-1])}, ("fp32", (1, 5)), "outside of 0..2"),
    (
        "slice_by_index",
        {"x": M, "begin": i32(0, 0), "end": i32(4, 5)},
        ("fp32", (None, None)),
        "outside of a dimension",
    ),
    ("slice_by_size", {"x": M, "begin": i32(2, 0), "size": ints(2, 5)}, ("fp32", (2, 5)), "reach outside"),
    ("slice_by_size", {"x": M, "begin": i32(2, 0), "size": ints(0, 5)}, ("fp32", (None, 5)), "reach outside"),
    ("slice_update", {"x": M, "update": M[:2], "begin": ints(0, 0), "end": ints(3, 5)}, ("fp32", (3, 5)), "update has"),
    ("cast", {"x": f32([3e9]), "dtype": Const("int32")}, ("int32", (1,)), "does not fit int32"),
    ("cast", {"x": f16([np.nan]), "dtype": Const("int32")}, ("int32", (1,)), "does not fit int32"),
    ("reshape", {"x": M, "shape": i32(4, -1)}, ("fp32", (None, None)), "does not reshape"),
    ("add", {"x": M, "y": X}, ("fp32", (None, None, None)), "do not broadcast"),
    ("floor_div", {"x": i32([1]), "y": i32([0])}, ("int32", (1,)), "division by zero"),
    ("range_1d", {"start": i32(5), "end": i32(5), "step": one(1)}, ("int32", (None,)), "without elements"),
    ("range_1d", {"start": i32(5), "end": i32(9), "step": i32(0)}, ("int32", (None,)), "no range"),
    ("matmul", {"x": M, "y": M}, ("fp32", (3, 5)), "no common inner size"),
    ("select", {"cond": B, "a": Const(np.float32(1)), "b": Const(np.float32(0))}, ("fp32", ()), "is declared fp32[]"),
    ("linear", {"x": X[None], "weight": Const(np.eye(4, dtype=np.float32))}, ("fp32", (1, 2, 3, 4)), "x of shape"),
    ("transpose", {"x": X, "perm": ints(0, 0, 1)}, ("fp32", (2, 2, 3)), "twice"),
    ("scaled_dot_product_attention", {"query": X, "key": X[:, :, :3], "value": X}, ("fp32", (2, 3, 4)), "go together"),
]


@pytest.mark.parametrize(("kind", "arguments", "output", "message"), REFUSED)
def test_values_outside_of_a_definition_are_errors(kind: str, arguments: Any, output: Any, message: str) -> None:
    with pytest.raises(EngineError, match=f"{kind} out_0: .*{message}".replace("[]", r"\[\]")):
        run(kind, arguments, output)


NOT_LINKED = [
    ("nonsense", {"x": M}, ("fp32", (3, 5)), "does not know the operation"),
    ("while_loop", {"x": M}, ("fp32", (3, 5)), "does not know the operation"),
    ("add", {"x": M, "y": f16([1])}, ("fp32", (3, 5)), "y: is fp16, and another argument fp32"),
    ("add", {"x": M}, ("fp32", (3, 5)), "y is missing"),
    ("exp", {"x": M, "y": M}, ("fp32", (3, 5)), "it has no parameter y"),
    ("exp", {"x": i32([1])}, ("int32", (1,)), "expected fp16, fp32; found int32"),
    ("transpose", {"x": M, "perm": i32(1, 0)}, ("fp32", (5, 3)), "perm: expected a constant"),
    ("linear", {"x": M, "weight": M}, ("fp32", (3, 3)), "weight: expected a constant"),
    ("gelu", {"x": M, "mode": Const("exact")}, ("fp32", (3, 5)), "expected one of EXACT"),
    ("scatter", {"data": M, "indices": i32([0]), "updates": M[:1]}, ("fp32", (3, 5)), "mode is missing"),
    ("exp", {"x": "nobody"}, ("fp32", (3, 5)), "'nobody' is used before it is defined"),
    ("exp", {"x": M}, ("fp32", (1, 1, 1, 1, 3, 5)), "rank up to 5"),
]


@pytest.mark.parametrize(("kind", "arguments", "output", "message"), NOT_LINKED)
def test_programs_that_do_not_fit_the_definitions_do_not_link(
    kind: str, arguments: Any, output: Any, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        linked(one_op(kind, arguments, output))


GROWING = [
    ("range_1d", {"start": i32(0), "end": i32(2**31 - 1), "step": one(1)}, ("int32", (None,))),
    ("fill", {"shape": i32(2**20, 2**20)}, ("fp32", (None, None))),
    ("tile", {"x": M, "reps": i32(2**20, 2**20)}, ("fp32", (None, None))),
    ("one_hot", {"indices": i32([1]), "one_hot_vector_size": i32(2**31 - 1)}, ("int32", (None, None))),
    ("add", {"x": np.zeros((2000, 1), np.float32), "y": np.zeros((1, 2000), np.float32)}, ("fp32", (None, None))),
    ("pad", {"x": M, "pad": i32(2**30, 2**30, 2**30, 2**30)}, ("fp32", (None, None))),
]


@pytest.mark.parametrize(("kind", "arguments", "output"), GROWING)
def test_large_results_are_refused_before_they_are_made(kind: str, arguments: Any, output: Any) -> None:
    interpreter = linked(one_op(kind, arguments, output), Limits(elements=1 << 20))
    with pytest.raises(EngineError, match="larger than anything this model needs"):
        interpreter.run(feeds(arguments), {})


def test_work_and_memory_are_bounded() -> None:
    model = Model()
    model.input("x", "fp32", (1000,))
    names = ["x"]
    for i in range(50):
        model.op("exp", {"x": names[-1]}, (f"y{i}", "fp32", (1000,)))
        names.append(f"y{i}")
    model.op("concat", {"values": names, "axis": one(0)}, ("all", "fp32", (None,)))
    model.output("all")
    given = {"x": np.zeros(1000, np.float32)}
    assert linked(model).run(given, {})[0]["all"].shape == (51_000,)
    with pytest.raises(EngineError, match="computes more"):
        linked(model, Limits(work=40_000)).run(given, {})
    with pytest.raises(EngineError, match="keeps more tensors"):
        linked(model, Limits(held=40_000)).run(given, {})


def test_reading_the_weights_of_a_saved_package(tmp_path: Path) -> None:
    """int4 and int8 with scales per block, fp16, and odd sizes, taken by rows."""
    rng = np.random.default_rng(3)
    model = Model()
    model.input("ids", "int32", (3,))
    model.input("x", "fp16", (1, 15))
    four = rng.integers(-8, 8, (7, 15)).astype(np.int8)
    scale = (rng.random((7, 5)) + 0.5).astype(np.float16)
    model.op(
        "constexpr_blockwise_shift_scale",
        {"data": Stored(four, "int4"), "scale": Stored(scale)},
        ("table", "fp16", (7, 15)),
    )
    eight = rng.integers(0, 256, (20, 15)).astype(np.uint8)
    zero = rng.integers(100, 140, (4, 1)).astype(np.uint8)
    steps = (rng.random((4, 1)) / 100 + 0.01).astype(np.float16)
    model.op(
        "constexpr_blockwise_shift_scale",
        {"data": Stored(eight), "scale": Const(steps), "offset": Const(zero)},
        ("w", "fp16", (20, 15)),
    )
    model.op("gather", {"x": "table", "indices": "ids"}, ("rows", "fp16", (3, 15)))
    model.op("linear", {"x": "x", "weight": "w"}, ("y", "fp16", (1, 20)))
    model.output("rows", "y")
    interpreter = Interpreter.open(model.save(tmp_path / "m.mlpackage"))
    x = rng.standard_normal((1, 15)).astype(np.float16)
    found, _ = interpreter.run({"ids": i32(5, 0, 5), "x": x}, {})
    table = np.array([[four[n, k] * scale[n, k // 3] for k in range(15)] for n in range(7)], np.float16)
    assert np.array_equal(found["rows"], table[[5, 0, 5]])
    w = np.array([[(int(eight[n, k]) - int(zero[n // 5, 0])) * steps[n // 5, 0] for k in range(15)] for n in range(20)])
    y = x.astype(np.float64) @ w.astype(np.float16).astype(np.float64).T
    assert np.allclose(found["y"], y, rtol=1e-3, atol=1e-3)
