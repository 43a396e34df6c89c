"""The messages of a model as plain structures, each checked by itself; the linker checks how they go together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.engines.coreml_interpreter.blobs import Blob, read_blob
from edgeslm.engines.coreml_interpreter.types import MAX_RANK, NUMPY, Array, TensorType
from edgeslm.errors import BundleError

SPECIFICATION = 9  # iOS 18, macOS 15: the first with states
OPSET = "CoreML8"  # its ops
MAX_OPERATIONS = 100_000
_MAX_DIM = 1 << 31
_DTYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    21: "int8",
    22: "int16",
    23: "int32",
    25: "int4",
    31: "uint8",
    32: "uint16",
    35: "uint4",
}
_FEATURE_DTYPES = {65568: "fp32", 65552: "fp16", 131104: "int32", 131080: "int8"}
_FIELDS = {  # element type → fields of an immediate value that may hold it
    "bool": "bools",
    "string": "strings",
    "fp32": "floats",
    "int32": "ints",
    "int16": "ints",
    "uint16": "ints",
}

Constant = Array | Blob | str
MapFile = Callable[[str], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Literal:
    """A constant written where it is used."""

    type: TensorType
    value: Constant


Argument = str | Literal  # a name, or a constant


@dataclass(frozen=True)
class Operation:
    """One operation; ``value`` is that of a "const"."""

    type: str
    inputs: dict[str, tuple[Argument, ...]]
    outputs: tuple[tuple[str, TensorType], ...]
    value: Literal | None = None


@dataclass(frozen=True)
class Feature:
    """An input, an output or a state as the model's description offers it.

    Attributes:
        shapes: those listed, if they are; else every one within ``bounds``, (smallest, largest) per dimension.
    """

    name: str
    dtype: str
    bounds: tuple[tuple[int, int], ...]
    shapes: tuple[tuple[int, ...], ...] = ()

    def takes(self, shape: tuple[int, ...]) -> bool:
        """May a value have this shape?"""
        if self.shapes:
            return shape in self.shapes
        return len(shape) == len(self.bounds) and all(
            low <= d <= high for d, (low, high) in zip(shape, self.bounds, strict=True)
        )


@dataclass(frozen=True)
class Function:
    """One function of a program, with what the model's description says about it."""

    inputs: dict[str, TensorType]
    states: dict[str, TensorType]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    features: dict[str, Feature]  # of the inputs


def read_function(model: Any, name: str, map_file: MapFile) -> Function:
    """A function of a ``Model`` message; ``name`` "" means the default one.

    Raises:
        BundleError: not a program for iOS 18, no such function, or anything in it damaged or out of bounds.
    """
    if model.WhichOneof("Type") != "mlProgram" or model.specificationVersion != SPECIFICATION:
        raise BundleError(
            f"model.mlmodel: a {model.WhichOneof('Type')} of specification {model.specificationVersion}; expected an "
            f"mlProgram of specification {SPECIFICATION} (iOS 18, macOS 15)"
        )
    description = model.description
    if len(description.functions):
        name = name or description.defaultFunctionName
        description = next((f for f in description.functions if f.name == name), None)
    name = name or "main"
    if description is None or name not in model.mlProgram.functions:
        raise BundleError(f"model.mlmodel: has no function {name[:80]!r}")
    return _Reader(map_file).function(model.mlProgram.functions[name], description)


class _Reader:
    def __init__(self, map_file: MapFile) -> None:
        self._map_file = map_file
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def function(self, message: Any, description: Any) -> Function:
        if message.opset != OPSET or message.opset not in message.block_specializations:
            raise BundleError(f"model.mlmodel: opset {message.opset[:80]!r}; expected {OPSET}")
        block = message.block_specializations[message.opset]
        if len(block.operations) > MAX_OPERATIONS or len(block.inputs):
            raise BundleError(f"model.mlmodel: {len(block.operations)} operations; expected up to {MAX_OPERATIONS}")
        inputs: dict[str, TensorType] = {}
        states: dict[str, TensorType] = {}
        for item in message.inputs:
            state = item.type.WhichOneof("type") == "stateType"
            kind = item.type.stateType.wrappedType if state else item.type
            (states if state else inputs)[item.name] = tensor_type(kind, item.name)
        _check_described(inputs, [_feature(f, f.type.multiArrayType) for f in description.input], "inputs")
        _check_described(states, [_feature(f, f.type.stateType.arrayType) for f in description.state], "states")
        outputs = tuple(block.outputs)
        if set(outputs) != {f.name for f in description.output}:
            raise BundleError("model.mlmodel: the outputs of the program are not those that the model describes")
        features = {f.name: _feature(f, f.type.multiArrayType) for f in description.input}
        return Function(inputs, states, tuple(map(self._operation, block.operations)), outputs, features)

    def _operation(self, message: Any) -> Operation:
        where = f"{message.type[:80]} {message.outputs[0].name[:80] if message.outputs else ''}".strip()
        if message.blocks:
            raise BundleError(f"{where}: this interpreter knows no operations with blocks inside (loops, conditions)")
        unknown = set(message.attributes) - {"name", "val"}
        if unknown or ("val" in message.attributes) != (message.type == "const"):
            raise BundleError(f"{where}: attributes {sorted(message.attributes)[:8]} do not belong to it")
        outputs = tuple((o.name, tensor_type(o.type, where)) for o in message.outputs)
        inputs = {k: tuple(self._argument(b, where) for b in a.arguments) for k, a in message.inputs.items()}
        value = self._literal(message.attributes["val"], where) if message.type == "const" else None
        return Operation(message.type, inputs, outputs, value)

    def _argument(self, binding: Any, where: str) -> Argument:
        return self._literal(binding.value, where) if binding.WhichOneof("binding") == "value" else str(binding.name)

    def _literal(self, message: Any, where: str) -> Literal:
        kind = tensor_type(message.type, where)
        if message.WhichOneof("value") == "blobFileValue":
            name = message.blobFileValue.fileName
            if name not in self._files:
                self._files[name] = self._map_file(name)
            return Literal(kind, read_blob(self._files[name], message.blobFileValue.offset, kind))
        if message.WhichOneof("value") != "immediateValue" or message.immediateValue.WhichOneof("value") != "tensor":
            raise BundleError(f"{where}: a constant that is no tensor")
        return Literal(kind, _immediate(message.immediateValue.tensor, kind, where))


def tensor_type(message: Any, where: str) -> TensorType:
    """A ``ValueType`` message as a tensor type."""
    if message.WhichOneof("type") != "tensorType" or message.tensorType.dataType not in _DTYPES:
        raise BundleError(f"{where}: a value that is no tensor of a known element type")
    tensor = message.tensorType
    dims = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
    bad = any(d is not None and not 0 < d < _MAX_DIM for d in dims) or any(
        d.unknown.variadic for d in tensor.dimensions
    )
    if bad or tensor.rank != len(dims) or len(dims) > 2 * MAX_RANK:
        raise BundleError(f"{where}: shape {[*dims][:16]} of rank {tensor.rank} is not possible")
    return TensorType(_DTYPES[tensor.dataType], dims)


def _immediate(message: Any, kind: TensorType, where: str) -> Array | str:
    field = message.WhichOneof("value")
    if field is None or field != _FIELDS.get(kind.dtype, "bytes") or None in kind.shape:
        raise BundleError(f"{where}: a constant of type {kind} that holds {field}")
    values = getattr(message, field).values
    if kind.dtype == "string":
        if kind.shape or len(values) != 1:
            raise BundleError(f"{where}: expected one text, found {len(values)}")
        return str(values[0])
    shape = tuple(d or 0 for d in kind.shape)
    count = len(values) // NUMPY[kind.dtype].itemsize if field == "bytes" else len(values)
    four_bits = kind.dtype in ("int4", "uint4")
    if four_bits or count != math.prod(shape) or (field == "bytes" and len(values) % NUMPY[kind.dtype].itemsize):
        raise BundleError(f"{where}: {count} values for {kind}")
    if field == "bytes":
        return np.frombuffer(values, NUMPY[kind.dtype]).reshape(shape)
    array = np.array(values, np.float32 if field == "floats" else np.bool_ if field == "bools" else np.int32)
    if array.astype(NUMPY[kind.dtype]).astype(array.dtype).tobytes() != array.tobytes():
        raise BundleError(f"{where}: values outside of {kind.dtype}")
    return array.astype(NUMPY[kind.dtype]).reshape(shape)


def _feature(message: Any, array: Any) -> Feature:
    if array.dataType not in _FEATURE_DTYPES:
        raise BundleError(f"model.mlmodel: {message.name[:80]}: element type {array.dataType} is not known")
    bounds = tuple((d, d) for d in array.shape)
    shapes: tuple[tuple[int, ...], ...] = ()
    if array.WhichOneof("ShapeFlexibility") == "shapeRange":
        ranges = array.shapeRange.sizeRanges
        bounds = tuple((r.lowerBound, r.upperBound if r.upperBound >= 0 else _MAX_DIM) for r in ranges)
    elif array.WhichOneof("ShapeFlexibility") == "enumeratedShapes":
        shapes = tuple(tuple(s.shape) for s in array.enumeratedShapes.shapes)
    return Feature(message.name, _FEATURE_DTYPES[array.dataType], bounds, shapes)


def _check_described(types: dict[str, TensorType], features: list[Feature], what: str) -> None:
    """Does the description offer the very inputs or states that the program has?"""
    if set(types) != {f.name for f in features}:
        raise BundleError(f"model.mlmodel: the {what} of the program are not those that the model describes")
    for feature in features:
        kind = types[feature.name]
        ranks = {len(s) for s in feature.shapes} or {len(feature.bounds)}
        fixed = [d is None or feature.shapes or b == (d, d) for d, b in zip(kind.shape, feature.bounds, strict=False)]
        if kind.dtype != feature.dtype or ranks != {len(kind.shape)} or not all(fixed):
            raise BundleError(f"model.mlmodel: {feature.name[:80]} is {kind} in the program, not as described")
        if what == "states" and None in kind.shape:
            raise BundleError(f"model.mlmodel: state {feature.name[:80]} has no fixed shape: {kind}")
