"""A small layer over coremltools: MIL programs whose weights lie in a file that is never loaded here.

A weight is declared by a constant of the right type and shape that takes no memory (its strides are 0); when the
program is written, each becomes a reference into the planned ``weight.bin``. No optimisation pass of coremltools runs:
what the builder says is what the model file holds.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeslm.converters.coreml_weights import Blob, WeightPlan
from edgeslm.errors import MissingExtraError

SPECIFICATION_VERSION = 9  # iOS 18, macOS 15: states and weights in blocks
WEIGHT_FILE = "@model_path/weights/weight.bin"

Var = Any  # a value of a MIL program; coremltools has no types
Range = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """An input of the model; a dimension is its size, or the (smallest, largest) that it may take."""

    dtype: str
    shape: tuple[int | Range, ...]


@dataclass(frozen=True)
class Interface:
    """What callers see of a model."""

    inputs: dict[str, Input]
    states: dict[str, tuple[int, ...]]  # float16: Core ML takes no other state


def require_coremltools() -> None:
    """Raises: MissingExtraError: coremltools is not installed."""
    if importlib.util.find_spec("coremltools") is None:
        raise MissingExtraError("conversion to Core ML", "coremltools", "coreml")


class Program:
    """One MIL function under construction. Operations are recorded by ``with program.function: program.mb.…``.

    Raises:
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, interface: Interface, plan: WeightPlan) -> None:
        self._mil, self._types, target = _import_mil()
        self.mb = importlib.import_module("coremltools.converters.mil").Builder
        self._interface, self._plan = interface, plan
        self._blobs: dict[str, Blob] = {}
        self._weights: dict[str, Var] = {}
        arguments = {name: self._placeholder(i) for name, i in interface.inputs.items()}
        for name, shape in interface.states.items():
            arguments[name] = self.mb.state_tensor_placeholder(shape=shape, dtype=self._types.fp16)
        self.function = self._mil.Function(arguments, opset_version=target)

    def argument(self, name: str) -> Var:
        """An input or a state."""
        return self.function.inputs[name]

    def weight(self, name: str) -> Var:
        """A tensor of the plan as floats; equal names share one value."""
        if name not in self._weights:
            tensor, label = self._plan.tensors[name], name.replace(".", "_")
            if tensor.group_size:
                parts = {p: self._declare(f"{label}_{p}", blob) for p, blob in tensor.blobs.items()}
                self._weights[name] = self.mb.constexpr_blockwise_shift_scale(**parts, name=label)
            else:
                self._weights[name] = self._declare(label, tensor.blobs["data"])
        return self._weights[name]

    def constant(self, name: str) -> Var:
        """A constant of the plan."""
        if name not in self._weights:
            self._weights[name] = self._declare(name.replace(".", "_"), self._plan.constants[name][0])
        return self._weights[name]

    def serialize(self, metadata: Mapping[str, str], user_metadata: Mapping[str, str]) -> bytes:
        """The bytes of ``model.mlmodel``.

        Args:
            metadata: the fields that Apple defines (author, license, shortDescription, versionString).
            user_metadata: further ones, for whoever reads them.
        """
        pb = importlib.import_module("coremltools.proto.Model_pb2")
        program = self._mil.Program()
        program.add_function("main", self.function)
        model = pb.Model(specificationVersion=SPECIFICATION_VERSION)
        model.mlProgram.CopyFrom(_exporter(program, self._blobs).export())
        self._describe(model.description)
        for key, value in metadata.items():
            setattr(model.description.metadata, key, value)
        model.description.metadata.userDefined.update(user_metadata)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _placeholder(self, i: Input) -> Var:
        shape = tuple(d if isinstance(d, int) else self._mil.get_new_symbol() for d in i.shape)
        return self.mb.placeholder(shape=shape, dtype=self._mil_type(i.dtype))

    def _mil_type(self, dtype: str) -> Any:
        names = {"float16": "fp16", "float32": "fp32"}
        return getattr(self._types, names.get(dtype, dtype))

    def _declare(self, label: str, blob: Blob) -> Var:
        dtype = self._types.np_int4_dtype if blob.dtype == "int4" else np.dtype(blob.dtype)
        self._blobs[label] = blob
        return self.mb.const(val=np.broadcast_to(np.zeros((), dtype), blob.shape), name=label)

    def _describe(self, description: Any) -> None:
        kinds = importlib.import_module("coremltools.proto.FeatureTypes_pb2").ArrayFeatureType

        def array(kind: Any, dtype: str, shape: tuple[int, ...]) -> None:
            kind.dataType = getattr(kinds, dtype.upper())
            kind.shape.extend(shape)

        for name, i in self._interface.inputs.items():
            array_type = description.input.add(name=name).type.multiArrayType
            ranges = [(d, d) if isinstance(d, int) else d for d in i.shape]
            array(array_type, i.dtype, tuple(low for low, _ in ranges))
            for low, high in ranges:
                array_type.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
        for name, shape in self._interface.states.items():
            array(description.state.add(name=name).type.stateType.arrayType, "float16", shape)
        for output in self.function.outputs:
            dtype = {self._types.fp16: "float16", self._types.fp32: "float32"}[output.dtype]
            array(description.output.add(name=output.name).type.multiArrayType, dtype, ())


def cast(mb: Any, x: Var, dtype: str) -> Var:
    """``x`` as "fp16" or "fp32"."""
    return x if x.dtype.__type_info__().name == dtype else mb.cast(x=x, dtype=dtype)


def _import_mil() -> tuple[Any, Any, Any]:
    """coremltools' MIL, its types, and the target; without its advice on other packages."""
    require_coremltools()
    quiet = logging.getLogger("coremltools")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        ct = importlib.import_module("coremltools")
    finally:
        quiet.setLevel(level)
    mil = importlib.import_module("coremltools.converters.mil.mil")
    return mil, mil.types, ct.target.iOS18


def _exporter(program: Any, blobs: Mapping[str, Blob]) -> Any:
    """coremltools' writer of programs, except that weights are references to ``blobs``."""
    load = importlib.import_module("coremltools.converters.mil.backend.mil.load")

    class Exporter(load.MILProtoExporter):  # type: ignore[misc, name-defined]
        def get_milproto_value(self, var: Var) -> Any:
            blob = blobs.get(var.name)
            if blob is None:
                return load.create_immediate_value(var)
            kind = load.types_to_proto_primitive(var.sym_type.get_primitive())
            return load.create_file_value_tensor(WEIGHT_FILE, blob.record, blob.shape, kind)

    return Exporter(program, "", SPECIFICATION_VERSION)
