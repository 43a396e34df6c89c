"""The interpreter against coremltools itself: its values for constant operations, and packages that it saved."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil import Const, feeds, one_op

from edgeslm.engines.coreml_interpreter.blobs import read_blob
from edgeslm.engines.coreml_interpreter.interpreter import Interpreter
from edgeslm.engines.coreml_interpreter.program import read_function
from edgeslm.engines.coreml_interpreter.types import TensorType

Arrays = np.ndarray[Any, Any]
R = np.random.default_rng(0)
X = R.standard_normal((2, 3, 4)).astype(np.float32)
INTS = R.integers(-9, 9, (3, 4)).astype(np.int32)


@pytest.fixture(scope="module")
def ct() -> Any:
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if os.environ.get("CI") == "true":
            import coremltools
        else:
            coremltools = pytest.importorskip("coremltools")
    return coremltools


# What coremltools works out itself for constants: its own telling of what an op means.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"x": X}) for kind in ("abs", "exp", "floor", "ceil", "round", "sigmoid", "relu", "square", "erf")),
    *((kind, {"x": X}) for kind in ("sign", "sin", "cos", "tanh", "softplus", "rsqrt", "inverse", "log", "sqrt")),
    *((kind, {"x": X, "y": X[:, :1]}) for kind in ("add", "sub", "mul", "real_div", "maximum", "minimum", "less")),
    *((kind, {"x": INTS, "y": INTS[:1] * 2 + 1}) for kind in ("floor_div", "mod", "equal", "not_equal", "greater")),
    *(("gelu", {"x": X, "mode": m}) for m in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")),
    *(
        (f"reduce_{kind}", {"x": X, "axes": [0, -1], "keep_dims": True})
        for kind in ("sum", "mean", "max", "min", "prod")
    ),
    *((f"reduce_{kind}", {"x": X, "axes": [1]}) for kind in ("l2_norm", "sum_square", "log_sum_exp")),
    *((f"reduce_{kind}", {"x": X, "axis": 1}) for kind in ("argmax", "argmin")),
    ("softmax", {"x": X, "axis": 1}),
    ("cumsum", {"x": X, "axis": 1, "reverse": True}),
    ("layer_norm", {"x": X, "axes": [-1], "gamma": X[0, 0], "beta": X[0, 1], "epsilon": np.float32(0.1)}),
    ("clip", {"x": X, "alpha": np.float32(-0.5), "beta": np.float32(0.25)}),
    ("cast", {"x": X * 3, "dtype": "int32"}),
    ("select", {"cond": X > 0, "a": X, "b": X[:, :1]}),
    ("band_part", {"x": X, "lower": 1, "upper": 0}),
    ("topk", {"x": X, "k": 2, "axis": 1}),
    ("argsort", {"x": X, "axis": -1}),
    ("transpose", {"x": X, "perm": [2, 0, 1]}),
    ("reshape", {"x": X, "shape": [-1, 0]}),
    ("expand_dims", {"x": X, "axes": [0, -1]}),
    ("squeeze", {"x": X[:1], "axes": [0]}),
    ("tile", {"x": X, "reps": [1, 2, 3]}),
    ("split", {"x": X, "split_sizes": [1, 3], "axis": 2}),
    (
        "slice_by_index",
        {"x": X, "begin": [0, 2, -3], "end": [2, 0, 0], "stride": [1, -1, 2], "end_mask": [False, False, True]},
    ),
    ("slice_by_index", {"x": X, "begin": [1, 0, 1], "end": [0, 3, 4], "squeeze_mask": [True, False, False]}),
    ("slice_update", {"x": X, "update": X[:1, :2, :1], "begin": [1, 0, 3], "end": [2, 2, 4]}),
    ("gather", {"x": X, "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 1}),
    ("gather", {"x": X, "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 2, "batch_dims": 1}),
    ("gather_along_axis", {"x": X, "indices": np.array([[[1, 0, 1, 1]] * 3], np.int32), "axis": 0}),
    ("linear", {"x": X, "weight": X[0], "bias": X[0, :, 0]}),
    ("matmul", {"x": X, "y": X, "transpose_x": True}),
    (
        "scaled_dot_product_attention",
        {"query": X, "key": X[:, ::-1].copy(), "value": X, "attn_mask": X[0, :, :3] > -0.4},
    ),
    ("range_1d", {"start": np.int32(3), "end": np.int32(11), "step": np.int32(4)}),
    ("fill", {"shape": [2, 3], "value": np.float32(4)}),
]


@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=[f"{k}-{i}" for i, (k, _) in enumerate(CASES)])
def test_constant_operations(kind: str, arguments: dict[str, Any], ct: Any) -> None:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types

    with np.errstate(all="ignore"), Function({}, opset_version=ct.target.iOS18):
        outputs = getattr(mb, kind)(**arguments)
    variables = outputs if isinstance(outputs, list | tuple) else [outputs]
    assert all(v.val is not None for v in variables), "coremltools gives no value, so this case tests nothing"
    declared = [(types.builtin_to_string(v.dtype), tuple(int(d) for d in v.shape)) for v in variables]
    given = {k: typed(k, a) for k, a in arguments.items()}
    interpreter = Interpreter(
        read_function(one_op(kind, given, *declared).message, "", lambda name: np.empty(0, np.uint8))
    )
    found, _ = interpreter.run(feeds(given), {})
    for i, variable in enumerate(variables):
        assert np.allclose(found[f"out_{i}"], variable.val, rtol=1e-5, atol=1e-6, equal_nan=True)


def typed(name: str, value: Any) -> Any:
    """Tensors stay inputs; settings become constants of the type that the op takes."""
    if isinstance(value, np.ndarray) and name not in ("gamma", "beta", "weight", "bias"):
        return value
    if isinstance(value, str | np.generic | np.ndarray):
        return Const(value)
    array = np.array(value)
    return Const(array if array.dtype == bool else array.astype(np.int32))


def test_a_package_that_coremltools_saved(ct: Any, tmp_path: Path) -> None:
    """States, flexible shapes, int4 weights and fp16, as its own builder, passes and serialiser write them."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types

    data = R.integers(-8, 8, (6, 8)).astype(np.int8)
    scale = (R.random((6, 2)) + 0.5).astype(np.float16)
    placeholders = {
        "x": mb.placeholder(shape=(get_new_symbol(), 8), dtype=types.fp16),
        "memory": mb.state_tensor_placeholder(shape=(5, 6), dtype=types.fp16),
    }
    with Function(placeholders, opset_version=ct.target.iOS18) as function:
        memory = function.inputs["memory"]
        weight = mb.constexpr_blockwise_shift_scale(data=data.astype(types.np_int4_dtype), scale=scale)
        y = mb.linear(x=function.inputs["x"], weight=weight)
        kept = mb.slice_by_size(x=mb.concat(values=[mb.read_state(input=memory), y], axis=0), begin=[1, 0], size=[5, 6])
        now = mb.coreml_update_state(state=memory, value=kept)
        function.set_outputs([mb.add(x=now, y=np.float16(1), name="out")])
    program = Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        inputs=[ct.TensorType("x", (ct.RangeDim(1, 4, default=1), 8), dtype=np.float16)],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))

    interpreter = Interpreter.open(tmp_path / "m.mlpackage")
    states, rows = interpreter.new_states(), np.zeros((5, 6), np.float32)
    for _ in range(3):
        x = R.standard_normal((1, 8)).astype(np.float16)
        found, states = interpreter.run({"x": x}, states)
        rows = np.concatenate([rows, x.astype(np.float32) @ (data * scale.repeat(4, 1)).T.astype(np.float32)])[1:]
        assert np.allclose(found["out"], rows + 1, rtol=2e-3, atol=1e-2)
        assert np.allclose(states["memory"], rows, rtol=2e-3, atol=1e-2)


def test_blobs_that_coremltools_wrote(tmp_path: Path) -> None:
    """Every element type of the weight file, also where the count of 4-bit elements is odd."""
    from coremltools.libmilstoragepython import _BlobStorageWriter

    rng = np.random.default_rng(1)
    arrays = {
        "int4": rng.integers(-8, 8, (3, 5)).astype(np.int8),
        "uint4": rng.integers(0, 16, (3, 5)).astype(np.uint8),
        "int8": rng.integers(-128, 128, (3, 5)).astype(np.int8),
        "uint8": rng.integers(0, 256, (3, 5)).astype(np.uint8),
        "fp16": rng.standard_normal((3, 5)).astype(np.float16),
        "fp32": rng.standard_normal((3, 5)).astype(np.float32),
        "int32": rng.integers(-(2**31), 2**31, (3, 5)).astype(np.int32),
        "uint16": rng.integers(0, 2**16, (3, 5)).astype(np.uint16),
    }
    path = tmp_path / "weight.bin"
    writer = _BlobStorageWriter(str(path))
    offsets = {}
    for dtype, array in arrays.items():
        flat = array.reshape(-1).copy()
        name = {"fp32": "float"}.get(dtype, dtype)
        offsets[dtype] = getattr(writer, f"write_{name}_data")(flat.view(np.uint16) if dtype == "fp16" else flat)
    del writer
    file = np.fromfile(path, np.uint8)
    for dtype, array in arrays.items():
        blob = read_blob(file, offsets[dtype], TensorType(dtype, (3, 5)))
        assert np.array_equal(blob.array(), array), dtype
        assert np.array_equal(blob.rows(1, 3), array[1:3]), dtype
