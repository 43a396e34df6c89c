"""Packages, states and shapes: what the interpreter makes of a whole saved program."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil import Const, Model, Stored

from edgeslm.engines.coreml_interpreter.blobs import Blockwise, round_to_half
from edgeslm.engines.coreml_interpreter.budget import Limits
from edgeslm.engines.coreml_interpreter.interpreter import Interpreter
from edgeslm.errors import ArgumentError, BundleError, EngineError

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def one(value: int) -> Const:
    return Const(np.int32(value))


def counter() -> Model:
    """``total`` += the sum of x; gives what was read first, and what is read after it has been written."""
    model = Model()
    model.input("x", "fp16", (1, None), longest=8)
    model.state("total", "fp16", (1,))
    model.op("read_state", {"input": "total"}, ("before", "fp16", (1,)))
    model.op("reduce_sum", {"x": "x", "axes": Const(np.array([1], np.int32))}, ("sum", "fp16", (1,)))
    model.op("add", {"x": "before", "y": "sum"}, ("new", "fp16", (1,)))
    model.op("write_state", {"input": "total", "data": "new"})
    model.op("read_state", {"input": "total"}, ("after", "fp16", (1,)))
    model.op("gather", {"x": "x", "indices": one(0), "axis": one(1)}, ("first", "fp16", (1,)))
    model.op("cast", {"x": "first", "dtype": Const("int32")}, ("whole", "int32", (1,)))  # fails where x[0] is inf
    model.output("before", "after", "whole")
    return model


def table() -> Model:
    """Rows of a table in the weight file."""
    model = Model()
    model.input("i", "int32", (1,))
    model.const("table", Stored(np.arange(12, dtype=np.float32).reshape(4, 3)))
    model.op("gather", {"x": "table", "indices": "i"}, ("y", "fp32", (1, 3)))
    model.output("y")
    return model


def x(*values: float) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.array([values], np.float16)}


def test_states_are_read_in_the_order_of_the_program_and_belong_to_the_caller(tmp_path: Path) -> None:
    interpreter = Interpreter.open(counter().save(tmp_path / "m.mlpackage"))
    start = interpreter.new_states()
    found, one_state = interpreter.run(x(1, 2), start)
    assert (found["before"], found["after"]) == (0, 3)
    _, other_state = interpreter.run(x(10), start)  # another sequence, from the same start
    found, one_state = interpreter.run(x(5), one_state)
    assert (found["before"], found["after"]) == (3, 8)
    assert (start["total"], one_state["total"], other_state["total"]) == (0, 8, 10)
    with pytest.raises(EngineError, match="cast whole: a value does not fit int32"):
        interpreter.run(x(np.inf), one_state)
    assert one_state["total"] == 8


def test_inputs_are_held_to_the_description(tmp_path: Path) -> None:
    interpreter = Interpreter.open(counter().save(tmp_path / "m.mlpackage"))
    states = interpreter.new_states()
    assert interpreter.run(x(*range(8)), states)[0]["after"] == 28
    for wrong in (x(*range(9)), {"x": np.zeros((1, 2), np.float32)}, {"x": np.zeros(2, np.float16)}, {}):
        with pytest.raises(ArgumentError, match="x"):
            interpreter.run(wrong, states)


def test_listed_shapes(tmp_path: Path) -> None:
    model = counter()
    array = model.message.description.input[0].type.multiArrayType
    array.ClearField("shapeRange")
    for length in (1, 4):
        array.enumeratedShapes.shapes.add().shape.extend([1, length])
    interpreter = Interpreter.open(model.save(tmp_path / "m.mlpackage"))
    assert interpreter.run(x(1, 2, 3, 4), interpreter.new_states())[0]["after"] == 10
    with pytest.raises(ArgumentError):
        interpreter.run(x(1, 2), interpreter.new_states())


def test_functions_are_chosen_by_name(tmp_path: Path) -> None:
    model = counter()
    for name in ("decode", "prefill"):
        model.message.mlProgram.functions[name].CopyFrom(model.body)
        described = model.message.description.functions.add()
        described.name = name
        for part in ("input", "output", "state"):
            getattr(described, part).MergeFrom(getattr(model.message.description, part))
    for part in ("input", "output", "state"):
        model.message.description.ClearField(part)
    model.message.description.defaultFunctionName = "decode"
    del model.message.mlProgram.functions["main"]
    folder = model.save(tmp_path / "m.mlpackage")
    for name in ("", "decode", "prefill"):
        interpreter = Interpreter.open(folder, name)
        assert interpreter.run(x(2), interpreter.new_states())[0]["after"] == 2
    with pytest.raises(BundleError, match="no function 'main'"):
        Interpreter.open(folder, "main")


def change(message: Callable[[Any], None]) -> Callable[[Path], None]:
    """An edit of the model message of a saved package."""

    def edit(folder: Path) -> None:
        model = Model()
        model.message.ParseFromString((folder / MODEL).read_bytes())
        message(model.message)
        (folder / MODEL).write_bytes(model.message.SerializeToString())

    return edit


def block(message: Any) -> Any:
    return message.mlProgram.functions["main"].block_specializations["CoreML8"]


def manifest(**values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "Manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def root_path(path: str) -> Callable[[Path], None]:
    return manifest(itemInfoEntries={"1": {"path": path}})


def weights(offset: int, *numbers: int, kind: str = "<I") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        raw = bytearray((folder / WEIGHTS).read_bytes())
        struct.pack_into(kind, raw, offset, *numbers)
        (folder / WEIGHTS).write_bytes(raw)

    return edit


def argument(message: Any) -> Any:
    return block(message).operations[0].attributes["val"]


def add_loop(message: Any) -> None:
    block(message).operations[0].blocks.add()


def link_weights(folder: Path) -> None:
    outside = folder.with_name("outside.bin")
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda f: (f / "Manifest.json").unlink(), "Manifest.json: missing"),
    "no JSON": (lambda f: (f / "Manifest.json").write_text("{"), "not valid JSON"),
    "no root": (manifest(rootModelIdentifier="9"), "names no root model"),
    "root outside": (root_path("../../../etc/passwd"), "not a plain path"),
    "root absolute": (root_path("/etc/passwd"), "not a plain path"),
    "root missing": (root_path("com.apple.CoreML/other.mlmodel"), "missing"),
    "root a folder": (root_path("com.apple.CoreML/weights"), "not a regular file|cannot be opened"),
    "no model": (lambda f: (f / MODEL).write_bytes(b"\xff" * 40), "not a Core ML model"),
    "empty model": (lambda f: (f / MODEL).write_bytes(b""), "expected an mlProgram"),
    "cut model": (lambda f: (f / MODEL).write_bytes((f / MODEL).read_bytes()[:-9]), "not a Core ML model"),
    "newer": (change(lambda m: setattr(m, "specificationVersion", 10)), "expected an mlProgram of specification 9"),
    "older ops": (change(lambda m: setattr(m.mlProgram.functions["main"], "opset", "CoreML7")), "opset 'CoreML7'"),
    "a loop": (change(add_loop), "no operations with blocks inside"),
    "weights elsewhere": (
        change(lambda m: setattr(argument(m).blobFileValue, "fileName", "@model_path/../../../x")),
        "not a plain path",
    ),
    "weights absolute": (
        change(lambda m: setattr(argument(m).blobFileValue, "fileName", "/etc/passwd")),
        "names a file",
    ),
    "weights linked": (link_weights, "is a symbolic link"),
    "offset outside": (change(lambda m: setattr(argument(m).blobFileValue, "offset", 2**63)), "no blob"),
    "offset odd": (change(lambda m: setattr(argument(m).blobFileValue, "offset", 65)), "no blob"),
    "offset 0": (change(lambda m: setattr(argument(m).blobFileValue, "offset", 0)), "not a blob"),
    "sentinel": (weights(64, 0xDEADBEEE), "not a blob"),
    "type": (weights(68, 1), "not a blob"),
    "bytes": (weights(72, 2**40, kind="<Q"), "are not those of"),
    "data outside": (weights(80, 2**63, kind="<Q"), "are not those of"),
    "cut weights": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:150]), "are not those of"),
    "empty weights": (lambda f: (f / WEIGHTS).write_bytes(b""), "is empty"),
    "huge shape": (
        change(
            lambda m: setattr(block(m).operations[0].outputs[0].type.tensorType.dimensions[0].constant, "size", 2**40)
        ),
        "is not possible",
    ),
    "other result": (
        change(lambda m: setattr(block(m).operations[0].outputs[0].type.tensorType.dimensions[0].constant, "size", 5)),
        "does not declare the type of its value",
    ),
    "defined twice": (change(lambda m: block(m).operations.add().CopyFrom(block(m).operations[0])), "defined twice"),
    "no such output": (change(lambda m: block(m).outputs.append("z")), "outputs of the program are not those"),
    "undescribed input": (change(lambda m: m.description.ClearField("input")), "inputs of the program are not those"),
    "other input": (
        change(lambda m: setattr(m.description.input[0].type.multiArrayType, "dataType", 65568)),
        "is int32\\[1\\] in the program, not as described",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_package_is_refused(name: str, tmp_path: Path) -> None:
    folder = table().save(tmp_path / "m.mlpackage")
    interpreter = Interpreter.open(folder)
    assert interpreter.run({"i": np.array([2], np.int32)}, {})[0]["y"].tolist() == [[6, 7, 8]]
    edit, message = DAMAGE[name]
    edit(folder)
    with pytest.raises(BundleError, match=message):
        Interpreter.open(folder)


def test_a_result_that_is_not_of_its_declared_type_is_an_error(tmp_path: Path) -> None:
    model = table()
    declared = model.block.operations[1].outputs[0].type.tensorType
    declared.dimensions[1].constant.size = 4
    interpreter = Interpreter.open(model.save(tmp_path / "m.mlpackage"))
    with pytest.raises(EngineError, match=r"gather y: y is declared fp32\[1, 4\], and comes out as float32\[1, 3\]"):
        interpreter.run({"i": np.array([2], np.int32)}, {})


def test_large_states_are_refused(tmp_path: Path) -> None:
    model = counter()
    model.state("big", "fp16", (1 << 20, 1 << 10))
    folder = model.save(tmp_path / "m.mlpackage")
    with pytest.raises(BundleError, match="the states hold 1073741825 elements"):
        Interpreter.open(folder, limits=Limits(elements=1 << 20))


def test_a_state_is_written_with_its_own_type_only(tmp_path: Path) -> None:
    model = counter()
    model.op("cast", {"x": "new", "dtype": Const("fp32")}, ("wide", "fp32", (1,)))
    model.op("write_state", {"input": "total", "data": "wide"})
    with pytest.raises(BundleError, match=r"write_state : expected data to be of the state's type, fp16\[1\]"):
        Interpreter.open(model.save(tmp_path / "m.mlpackage"))


def test_weights_beyond_the_room_for_copies_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    model = Model()
    model.input("x", "fp32", (2, 256))
    data = rng.integers(-8, 8, (512, 256)).astype(np.int8)
    scale = rng.random((512, 8)).astype(np.float32)
    model.op(
        "constexpr_blockwise_shift_scale",
        {"data": Stored(data, "int4"), "scale": Stored(scale)},
        ("w", "fp32", (512, 256)),
    )
    model.op("linear", {"x": "x", "weight": "w"}, ("y", "fp32", (2, 512)))
    model.output("y")
    folder = model.save(tmp_path / "m.mlpackage")
    given = {"x": rng.standard_normal((2, 256)).astype(np.float32)}
    kept = Interpreter.open(folder).run(given, {})[0]["y"]
    monkeypatch.setattr("edgeslm.engines.coreml_interpreter.linker.KEPT_BYTES", 0)
    monkeypatch.setattr("edgeslm.engines.coreml_interpreter.ops.products.BLOCK_ELEMENTS", 256 * 100)
    read = Interpreter.open(folder).run(given, {})[0]["y"]
    assert np.allclose(kept, read, rtol=1e-5, atol=1e-5)
    expected = given["x"] @ (data * scale.repeat(32, 1)).T
    assert np.allclose(kept, expected, rtol=1e-4, atol=1e-4)


def test_reading_a_package_does_not_import_coremltools(tmp_path: Path) -> None:
    """It takes seconds, and warns about torch; nothing else of it is needed."""
    folder = counter().save(tmp_path / "m.mlpackage")
    code = (
        "import sys; from pathlib import Path; from edgeslm.engines.coreml_interpreter.interpreter import Interpreter\n"
        f"Interpreter.open(Path({str(folder)!r}))\n"
        "print([m for m in ('coremltools', 'torch', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_rounding_to_half_is_that_of_a_cast() -> None:
    rng = np.random.default_rng(0)
    sixteen = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = sixteen[np.isfinite(sixteen) & (np.abs(sixteen) >= 2.0**-14)].astype(np.float32)
    between = (exact[1:].astype(np.float64) + exact[:-1]) / 2  # ties
    values = np.concatenate([exact, between.astype(np.float32), rng.standard_normal(100_000).astype(np.float32), [0]])
    values = values[(np.abs(values) < 65504) & ((np.abs(values) >= 2.0**-14) | (values == 0))].astype(np.float32)
    assert np.array_equal(round_to_half(values.copy()), values.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("scale", [0.01, 2.0**-20, 300.0])
def test_dequantised_weights_are_the_same_in_float16_and_float32(scale: float) -> None:
    """Also where products leave float16's normal range."""
    rng = np.random.default_rng(0)
    scales = (scale * (1 + rng.random((6, 4)))).astype(np.float16)
    weight = Blockwise(rng.integers(-8, 8, (6, 32)).astype(np.int8), scales, None)
    expected = (weight.data.astype(np.float32) * scales.repeat(8, 1)).astype(np.float16)
    assert np.array_equal(weight.rows(1, 6), expected[1:])
    assert np.array_equal(weight.float_rows(1, 6), expected[1:].astype(np.float32))
