"""Core ML programs written message by message, without coremltools' builder: packages for the interpreter's tests."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeslm.engines.coreml_interpreter.proto import model_class

PROTO = {
    "bool": 1,
    "string": 2,
    "fp16": 10,
    "fp32": 11,
    "int8": 21,
    "int16": 22,
    "int32": 23,
    "int4": 25,
    "uint8": 31,
    "uint16": 32,
    "uint4": 35,
}
FEATURE = {"fp32": 65568, "fp16": 65552, "int32": 131104, "int8": 131080}
STORED = {"fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "int16": 6, "uint16": 7, "int4": 8, "uint4": 11, "int32": 14}
NAMES = {
    np.dtype(t): n
    for t, n in {
        np.float16: "fp16",
        np.float32: "fp32",
        np.int32: "int32",
        np.int16: "int16",
        np.uint16: "uint16",
        np.int8: "int8",
        np.uint8: "uint8",
        np.bool_: "bool",
    }.items()
}


@dataclass(frozen=True)
class Const:
    """A constant argument, written into the program; ``dtype`` where NumPy has no such type."""

    value: Any
    dtype: str = ""


@dataclass(frozen=True)
class Stored:
    """A constant argument, written into the weight file."""

    value: np.ndarray[Any, Any]
    dtype: str = ""


def dtype_of(value: Any) -> str:
    if isinstance(value, Const | Stored):
        return value.dtype or dtype_of(value.value)
    return "string" if isinstance(value, str) else NAMES[np.asarray(value).dtype]


@dataclass
class Model:
    """A model with one function, built up call by call.

    ``op("add", {"x": "a", "y": Const(…)}, ("sum", "fp32", (2, None)))``: names are text, constants are wrapped.
    """

    function: str = "main"
    weights: bytearray = field(default_factory=lambda: bytearray(struct.pack("<II", 0, 2).ljust(64, b"\0")))

    def __post_init__(self) -> None:
        self.message = model_class()()
        self.message.specificationVersion = 9
        self.body = self.message.mlProgram.functions[self.function]
        self.message.mlProgram.version = 1
        self.body.opset = "CoreML8"
        self.block = self.body.block_specializations["CoreML8"]

    def input(self, name: str, dtype: str, shape: tuple[int | None, ...], longest: int = 64) -> None:
        item = self.body.inputs.add()
        item.name = name
        set_type(item.type, dtype, shape)
        feature = self.message.description.input.add()
        feature.name = name
        array = feature.type.multiArrayType
        array.dataType = FEATURE[dtype]
        array.shape.extend([d or 1 for d in shape])
        if None in shape:
            for d in shape:
                bounds = array.shapeRange.sizeRanges.add()
                bounds.lowerBound, bounds.upperBound = d or 1, d or longest

    def state(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        item = self.body.inputs.add()
        item.name = name
        set_type(item.type.stateType.wrappedType, dtype, shape)
        feature = self.message.description.state.add()
        feature.name = name
        feature.type.stateType.arrayType.dataType = FEATURE[dtype]
        feature.type.stateType.arrayType.shape.extend(shape)

    def op(self, kind: str, inputs: dict[str, Any], *outputs: tuple[str, str, tuple[int | None, ...]]) -> None:
        operation = self.block.operations.add()
        operation.type = kind
        for key, value in inputs.items():
            for argument in value if isinstance(value, list) else [value]:
                binding = operation.inputs[key].arguments.add()
                if isinstance(argument, str):
                    binding.name = argument
                else:
                    self.set_value(binding.value, argument)
        for name, dtype, shape in outputs:
            item = operation.outputs.add()
            item.name = name
            set_type(item.type, dtype, shape)

    def const(self, name: str, value: Const | Stored) -> None:
        self.op("const", {}, (name, dtype_of(value), np.shape(value.value)))
        self.set_value(self.block.operations[-1].attributes["val"], value)

    def output(self, *names: str) -> None:
        for name in names:
            self.block.outputs.append(name)
            self.message.description.output.add().name = name

    def set_value(self, message: Any, constant: Const | Stored) -> None:
        dtype, array = dtype_of(constant), np.asarray(constant.value)
        set_type(message.type, dtype, array.shape)
        if isinstance(constant, Stored):
            message.blobFileValue.fileName = "@model_path/weights/weight.bin"
            message.blobFileValue.offset = self.store(array, dtype)
            return
        tensor = message.immediateValue.tensor
        if dtype == "string":
            tensor.strings.values.append(str(constant.value))
        elif dtype in ("fp16", "int8", "uint8"):
            tensor.bytes.values = array.tobytes()
        else:
            name = {"bool": "bools", "fp32": "floats"}.get(dtype, "ints")
            getattr(tensor, name).SetInParent()
            getattr(tensor, name).values.extend(array.reshape(-1).tolist())

    def store(self, array: np.ndarray[Any, Any], dtype: str) -> int:
        """Append a blob; its offset."""
        raw, unused = array.tobytes(), 0
        if dtype in ("int4", "uint4"):
            halves = (array.reshape(-1).astype(np.int8) & 15).astype(np.uint8)
            unused = 4 * (halves.size % 2)
            halves = np.append(halves, np.zeros(halves.size % 2, np.uint8))
            raw = (halves[0::2] | (halves[1::2] << 4)).tobytes()
        offset = len(self.weights)
        self.weights += struct.pack("<IIQQQ", 0xDEADBEEF, STORED[dtype], len(raw), offset + 64, unused).ljust(64, b"\0")
        self.weights += raw + bytes(-len(raw) % 64)
        return offset

    def save(self, folder: Path) -> Path:
        """Write a ``.mlpackage``."""
        inner = folder / "Data" / "com.apple.CoreML"
        (inner / "weights").mkdir(parents=True)
        (inner / "model.mlmodel").write_bytes(self.message.SerializeToString())
        (inner / "weights" / "weight.bin").write_bytes(self.weights)
        items = {"1": {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel", "author": "test"}}
        items["2"] = {"path": "com.apple.CoreML/weights", "name": "weights", "author": "test"}
        manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "1"}
        (folder / "Manifest.json").write_text(json.dumps(manifest))
        return folder


def set_type(message: Any, dtype: str, shape: tuple[int | None, ...]) -> None:
    message.tensorType.dataType = PROTO[dtype]
    message.tensorType.rank = len(shape)
    for d in shape:
        dimension = message.tensorType.dimensions.add()
        if d is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = d


def one_op(kind: str, arguments: dict[str, Any], *outputs: tuple[str, tuple[int | None, ...]]) -> Model:
    """A model of one operation; arrays among the arguments are its inputs, named after their parameters.

    A list is a parameter of several tensors; inputs that Core ML cannot take (bool, small integers) are cast inside.
    """
    model, given = Model(), {}
    for key, value in arguments.items():
        items = value if isinstance(value, list) else [value]
        names = [model_input(model, f"{key}_{i}", v) if isinstance(v, np.ndarray) else v for i, v in enumerate(items)]
        given[key] = names if isinstance(value, list) else names[0]
    results = [(f"out_{i}", dtype, shape) for i, (dtype, shape) in enumerate(outputs)]
    model.op(kind, given, *results)
    model.output(*(name for name, _, _ in results))
    return model


def model_input(model: Model, name: str, array: np.ndarray[Any, Any]) -> str:
    dtype = dtype_of(array)
    if dtype in ("fp16", "fp32", "int32"):
        model.input(name, dtype, array.shape)
        return name
    model.input(name, "int32", array.shape)
    model.op("cast", {"x": name, "dtype": Const(dtype)}, (f"{name}_cast", dtype, array.shape))
    return f"{name}_cast"


def feeds(arguments: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What to run ``one_op`` of these arguments with."""
    found = {}
    for key, value in arguments.items():
        for i, array in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(array, np.ndarray):
                wide = dtype_of(array) in ("fp16", "fp32", "int32")
                found[f"{key}_{i}"] = array if wide else array.astype(np.int32)
    return found
