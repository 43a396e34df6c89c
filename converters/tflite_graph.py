"""A small writer of TFLite models: subgraphs that share operator codes and buffers, weights behind the flatbuffer.

Schema: LiteRT, tflite/converter/schema/schema.fbs. A weight's buffer is given by ``offset`` and ``size`` from the start
of the file, so a file may be of any size, and is filled in after the flatbuffer has been laid out.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.errors import MissingExtraError

F32Array = npt.NDArray[np.float32]

SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"
ALIGNMENT = 64
UNPLACED = 2  # any offset above 1 says that the data lies outside of the flatbuffer
SCALES = ".scales"
BITS = {"float32": 32, "int8": 8, "int4": 4}

# Operator → its options table, if it has one.
OPTIONS = {
    "ADD": "AddOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "DYNAMIC_UPDATE_SLICE": "DynamicUpdateSliceOptions",
    "EMBEDDING_LOOKUP": "",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LESS": "LessOptions",
    "LOGISTIC": "",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "NEG": "NegOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "RSQRT": "",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
    "TANH": "",
    "TRANSPOSE": "TransposeOptions",
}


def import_schema() -> Any:
    """The schema's tables.

    Raises:
        MissingExtraError: the ai-edge-litert package, which holds them, is not installed.
    """
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ModuleNotFoundError:
        raise MissingExtraError("conversion to LiteRT", "ai-edge-litert", "litert") from None


class Model:
    """What the subgraphs of a file share: operator codes and buffers."""

    def __init__(self) -> None:
        """
        Raises:
            MissingExtraError: see :func:`import_schema`.
        """
        self.schema = import_schema()
        self.external: dict[str, int] = {}  # name → bytes
        self.row_scaled: dict[str, int] = {}  # weights with a scale for each row → rows
        self._graphs: list[Graph] = []
        self._buffers: dict[str | bytes, int] = {}
        self._codes: dict[tuple[str, int], int] = {}

    def graph(self, signature: str) -> Graph:
        """A new subgraph, which callers find by the name of its signature."""
        self._graphs.append(Graph(self, signature))
        return self._graphs[-1]

    def layout(self) -> tuple[dict[str, int], int]:
        """Offset of each external buffer, and the file's size."""
        ones = {name: np.ones(rows, np.float32) for name, rows in self.row_scaled.items()}
        end, offsets = len(self.serialize(ones, {})), {}
        for name, size in self.external.items():
            offsets[name] = -(-end // ALIGNMENT) * ALIGNMENT
            end = offsets[name] + size
        return offsets, end

    def serialize(self, row_scales: Mapping[str, F32Array], offsets: Mapping[str, int]) -> bytes:
        """The flatbuffer. Its length depends neither on the scales nor on the offsets."""
        flatbuffers = importlib.import_module("flatbuffers")
        model = self.schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, "edgeslm"
        shared = {name: _Shared(self._row_quantization(scales)) for name, scales in row_scales.items()}
        model.subgraphs = [graph.pack(shared) for graph in self._graphs]
        model.signatureDefs = [graph.pack_signature(i) for i, graph in enumerate(self._graphs)]
        model.operatorCodes = [self._pack_code(*code) for code in self._codes]
        model.buffers = [self.schema.BufferT(), *(self._pack_buffer(key, offsets) for key in self._buffers)]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def operator_code(self, kind: str, version: int) -> int:
        """Index of an operator in a version: a runtime that knows lower ones only refuses the file."""
        return self._codes.setdefault((kind, version), len(self._codes))

    def inline_buffer(self, data: bytes) -> int:
        """Index of a buffer inside the flatbuffer; equal ones are shared. 0 is no buffer."""
        return self._buffers.setdefault(data, len(self._buffers) + 1)

    def external_buffer(self, name: str, size: int) -> int:
        """Index of a buffer behind the flatbuffer."""
        self.external[name] = size
        return self._buffers.setdefault(name, len(self._buffers) + 1)

    def _row_quantization(self, scales: F32Array) -> Any:
        table = self.schema.QuantizationParametersT()
        table.scale, table.zeroPoint = scales, np.zeros(len(scales), np.int64)
        return table

    def _pack_code(self, kind: str, version: int) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(self.schema.BuiltinOperator, kind), version
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # where old readers look
        return code

    def _pack_buffer(self, key: str | bytes, offsets: Mapping[str, int]) -> Any:
        buffer = self.schema.BufferT()
        if isinstance(key, bytes):
            buffer.data = np.frombuffer(key, np.uint8)
        else:
            buffer.offset, buffer.size = offsets.get(key, UNPLACED), self.external[key]
        return buffer


class _Shared:
    """A table that is stored once, however many tables refer to it."""

    def __init__(self, table: Any) -> None:
        self._table, self._offset = table, 0

    def Pack(self, builder: Any) -> int:
        self._offset = self._offset or int(self._table.Pack(builder))
        return self._offset


@dataclass
class Tensor:
    """One value of a subgraph."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: int = 0
    row_scaled: str = ""  # the weight whose rows' scales it has
    block: int = 0  # weights that share a scale of the tensor ``block_scales``
    block_scales: int = -1


@dataclass(frozen=True)
class _Operator:
    code: int
    inputs: tuple[int, ...]  # -1: an optional one is left out
    output: int
    options: Any
    options_type: int


class Graph:
    """Operators in order of their making; values are indices of tensors."""

    def __init__(self, model: Model, signature: str) -> None:
        self._model, self._signature = model, signature
        self._tensors: list[Tensor] = []
        self._operators: list[_Operator] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._inputs: dict[str, int] = {}
        self._outputs: dict[str, int] = {}

    def shape(self, value: int) -> tuple[int, ...]:
        return self._tensors[value].shape

    def dtype(self, value: int) -> str:
        return self._tensors[value].dtype

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> int:
        """An input of the signature."""
        self._inputs[name] = self._add(Tensor(name, dtype, tuple(shape)))
        return self._inputs[name]

    def output(self, name: str, value: int) -> None:
        """Declare a value as an output of the signature."""
        self._outputs[name] = value

    def constant(self, values: npt.NDArray[Any]) -> int:
        """A small array that is stored inside the flatbuffer; equal ones are shared."""
        data = np.ascontiguousarray(values).tobytes()
        key = (data, values.dtype.name, values.shape)
        if key not in self._known:
            name = f"constant_{len(self._tensors)}"
            buffer = self._model.inline_buffer(data)
            self._known[key] = self._add(Tensor(name, values.dtype.name, values.shape, buffer))
        return self._known[key]

    def weight(self, name: str, dtype: str, shape: tuple[int, ...], block: int = 0) -> int:
        """An external array: float32, or int8 or int4 with a scale for each row or each ``block`` along a row."""
        if (name,) in self._known:
            return self._known[(name,)]
        tensor = Tensor(name, dtype, shape, self._model.external_buffer(name, math.prod(shape) * BITS[dtype] // 8))
        if block:
            scales = (shape[0], shape[1] // block)
            buffer = self._model.external_buffer(name + SCALES, 2 * math.prod(scales))
            tensor.block_scales = self._add(Tensor(name + SCALES, "float16", scales, buffer))
            tensor.block = block
        elif dtype != "float32":
            tensor.row_scaled = name
            self._model.row_scaled[name] = shape[0]
        self._known[(name,)] = self._add(tensor)
        return self._known[(name,)]

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: str = "float32",
        version: int = 1,
        **options: Any,
    ) -> int:
        """One operator with one output, which is returned; ``options`` are fields of its options table."""
        schema, table = self._model.schema, OPTIONS[kind]
        packed, packed_type = None, 0
        if table:
            packed, packed_type = getattr(schema, table + "T")(), getattr(schema.BuiltinOptions, table)
            for name, value in options.items():
                assert hasattr(packed, name), f"{table}.{name}"
                setattr(packed, name, value)
        output = self._add(Tensor(f"{kind}_{len(self._tensors)}", dtype, tuple(shape)))
        code = self._model.operator_code(kind, version)
        self._operators.append(_Operator(code, tuple(inputs), output, packed, packed_type))
        return output

    def cast(self, x: int, dtype: str) -> int:
        """``x`` as another type."""
        types = self._model.schema.TensorType
        codes = [getattr(types, name.upper()) for name in (self.dtype(x), dtype)]
        return self.op("CAST", (x,), self.shape(x), dtype, inDataType=codes[0], outDataType=codes[1])

    def prune(self) -> None:
        """Drop the operators that no output needs."""
        needed, kept = set(self._outputs.values()), []
        for operator in reversed(self._operators):
            if operator.output in needed:
                needed.update(operator.inputs)
                kept.append(operator)
        self._operators = kept[::-1]

    def pack(self, row_quantizations: Mapping[str, Any]) -> Any:
        """The subgraph as a table of the schema, with the tensors that its operators use."""
        schema, places = self._model.schema, self._places()
        graph = schema.SubGraphT()
        graph.name = self._signature
        graph.tensors = [self._pack_tensor(self._tensors[old], places, row_quantizations) for old in places]
        graph.operators = [self._pack_operator(operator, places) for operator in self._operators]
        graph.inputs = [places[value] for value in self._inputs.values()]
        graph.outputs = [places[value] for value in self._outputs.values()]
        return graph

    def pack_signature(self, index: int) -> Any:
        """The names of inputs and outputs of the subgraph with this index."""
        schema, places = self._model.schema, self._places()
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = self._signature, index
        for field, values in (("inputs", self._inputs), ("outputs", self._outputs)):
            maps = []
            for name, value in values.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name, places[value]
                maps.append(entry)
            setattr(signature, field, maps)
        return signature

    def _places(self) -> dict[int, int]:
        """Tensor → its index in the file, for the tensors that are used."""
        used = {*self._inputs.values(), *self._outputs.values()}
        for operator in self._operators:
            used.update((operator.output, *operator.inputs))
        used |= {self._tensors[value].block_scales for value in used if value >= 0}
        return {old: new for new, old in enumerate(sorted(used - {-1}))}

    def _pack_tensor(self, tensor: Tensor, places: Mapping[int, int], row_quantizations: Mapping[str, Any]) -> Any:
        schema = self._model.schema
        packed = schema.TensorT()
        packed.name, packed.shape, packed.buffer, packed.hasRank = tensor.name, tensor.shape, tensor.buffer, True
        packed.type = getattr(schema.TensorType, tensor.dtype.upper())
        if tensor.row_scaled:
            packed.quantization = row_quantizations[tensor.row_scaled]
        elif tensor.block:
            packed.quantization = schema.QuantizationParametersT()
            packed.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
            packed.quantization.details = schema.BlockwiseQuantizationT()
            packed.quantization.details.scales = places[tensor.block_scales]
            packed.quantization.details.zeroPoints, packed.quantization.details.blockSize = -1, tensor.block
        return packed

    def _pack_operator(self, operator: _Operator, places: Mapping[int, int]) -> Any:
        packed = self._model.schema.OperatorT()
        packed.opcodeIndex = operator.code
        packed.inputs = [places.get(value, -1) for value in operator.inputs]
        packed.outputs = [places[operator.output]]
        packed.builtinOptions, packed.builtinOptionsType = operator.options, operator.options_type
        return packed

    def _add(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1
