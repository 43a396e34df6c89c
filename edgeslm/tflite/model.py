"""A ``.tflite`` file as data: only what edgeslm writes is accepted, and every index, size and extent is checked.

Schema: LiteRT, tflite/converter/schema/schema.fbs; the numbers of fields and enumerations below are its.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeslm.tflite.flatbuffer import Bytes, FlatBuffer, Ints, Tables

IDENTIFIER, VERSION = b"TFL3", 3
BITS = {"float32": 32, "float16": 16, "int32": 32, "bool": 8, "int8": 8, "int4": 4}
_TYPES = {0: "float32", 1: "float16", 2: "int32", 6: "bool", 9: "int8", 17: "int4"}
_BLOCKWISE = 2  # QuantizationDetails

MAX_RANK = 4  # what most kernels broadcast
MAX_ELEMENTS = 1 << 40  # of a tensor
MAX_SUBGRAPHS, MAX_PORTS, MAX_OPERANDS = 64, 4096, 16
MAX_OPERATORS = 1 << 17  # in all; the largest models need 30,000
MAX_TENSORS = 2 * MAX_OPERATORS  # of one subgraph
MAX_LIST = 8  # numbers of an int32 constant that operators read as sizes or dimensions


@dataclass(frozen=True)
class Tensor:
    """What is known of a value; equal ones of a file are one object."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool
    numbers: tuple[int, ...] = ()  # of a short int32 constant

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.elements * BITS[self.dtype] // 8)


@dataclass(frozen=True)
class Operators:
    """The operators of a subgraph in the order in which they run, as columns."""

    codes: list[int]
    inputs: list[tuple[int, ...]]  # -1 is an optional one that is left out
    outputs: list[int]
    options: Tables  # of the operators in ``with_options``
    options_types: list[int]  # of all; 0: no options
    with_options: dict[int, int]  # operator → row of ``options``


@dataclass(frozen=True)
class Subgraph:
    """Tensors by index; operators; indices of inputs and outputs."""

    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: Operators


@dataclass(frozen=True)
class Signature:
    """A subgraph by name, with the names of its inputs and outputs."""

    graph: Subgraph
    inputs: dict[str, int]
    outputs: dict[str, int]


class TfliteModel:
    """A parsed file."""

    def __init__(self, data: Bytes, name: str) -> None:
        """
        Raises:
            BundleError: damaged, or of a form that edgeslm does not write.
        """
        self.file = FlatBuffer(data, name, IDENTIFIER)
        self._need = self.file.need
        self._interned: dict[tuple[object, ...], Tensor] = {}
        root = self.file.root().only((0, 1, 2, 3, 4, 7))
        self._need(root.number(0, 4)[0] == VERSION, f"expected schema version {VERSION}")
        root.check_names(3)
        self._codes = self._read_codes(root.vector(1, 256))
        self._offsets, self._sizes = self._read_buffers(root.vector(4, MAX_TENSORS))
        tables = root.vector(2, MAX_SUBGRAPHS).only((0, 1, 2, 3, 4))
        tables.check_names(4)
        total = int(tables.extents(3, 4)[1].sum())
        self._need(total <= MAX_OPERATORS, f"{total} operators; expected at most {MAX_OPERATORS}")
        subgraphs = [self._subgraph(tables.at_index(i)) for i in range(len(tables))]
        self.signatures = self._read_signatures(root.vector(7, MAX_SUBGRAPHS), subgraphs)

    def _read_codes(self, tables: Tables) -> Ints:
        """Operator codes; old files have only the first field, which ends at 127."""
        tables.only((0, 2, 3))
        return np.maximum(tables.number(0, 1), tables.number(3, 4))

    def _read_buffers(self, tables: Tables) -> tuple[Ints, Ints]:
        """Offset and bytes of each buffer, inside the flatbuffer or behind it."""
        start, count = tables.only((0, 1, 2)).extents(0, 1)
        offset, size = tables.number(1, 8), tables.number(2, 8)
        outside = (offset != 0) | (size != 0)
        good = (offset > 1) & (offset % 16 == 0) & (size >= 0) & (count == 0)
        good &= (offset <= self.file.size) & (size <= self.file.size - offset)
        self._need((good | ~outside).all(), "a buffer lies outside of it")
        return np.where(outside, offset, start), np.where(outside, size, count)

    def _subgraph(self, table: Tables) -> Subgraph:
        tensors = self._read_tensors(table.vector(0, MAX_TENSORS))
        inputs, outputs = (self.file.lists(*table.extents(field, 4), MAX_PORTS)[0] for field in (1, 2))
        self._check_indices(np.array((*inputs, *outputs), np.int64), len(tensors))
        return Subgraph(tensors, inputs, outputs, self._read_operators(table.vector(3, MAX_OPERATORS), len(tensors)))

    def _read_tensors(self, tables: Tables) -> list[Tensor]:
        tables.only((0, 1, 2, 3, 4, 8)).check_names(3)
        buffers = tables.unsigned(2, 4)
        self._need((buffers < len(self._sizes)).all(), f"a buffer beyond the last, {len(self._sizes) - 1}")
        offsets, sizes = self._offsets[buffers].tolist(), self._sizes[buffers].tolist()
        shapes = self.file.lists(*tables.extents(0, 4), MAX_RANK)
        columns = zip(shapes, tables.number(1, 1).tolist(), offsets, sizes, strict=True)
        tensors = [self._tensor(*column) for column in columns]
        self._check_quantization(tables, tensors)
        return tensors

    def _tensor(self, shape: tuple[int, ...], kind: int, offset: int, size: int) -> Tensor:
        key = (shape, kind, size, offset if size <= 4 * MAX_LIST else offset % 4)
        if key not in self._interned:
            self._need(kind in _TYPES, f"a tensor of type {kind}")
            self._need(all(d > 0 for d in shape) and math.prod(shape) <= MAX_ELEMENTS, f"a tensor of shape {shape}")
            numbers: tuple[int, ...] = ()
            if size and _TYPES[kind] == "int32" and len(shape) == 1 and size <= 4 * MAX_LIST:
                numbers = tuple(self.file.data[offset : offset + size // 4 * 4].view("<i4").tolist())
            tensor = Tensor(shape, _TYPES[kind], size > 0, numbers)
            fits = not size or (size == tensor.bytes and offset % 4 == 0)
            self._need(fits, f"{tensor.dtype} {shape} in a buffer of {size} bytes at {offset}")
            self._interned[key] = tensor
        return self._interned[key]

    def _check_quantization(self, tables: Tables, tensors: list[Tensor]) -> None:
        """int8 and int4 are constant matrices with a scale for each row, or for each block of a row (float16)."""
        quantized = [i for i, t in enumerate(tensors) if t.dtype in ("int8", "int4")]
        other = np.ones(len(tensors), bool)
        other[quantized] = False
        self._need(not (tables.has(4) & other).any(), "a quantised tensor of another type than int8 and int4")
        found = [tensors[i] for i in quantized]
        self._need(all(t.constant and len(t.shape) == 2 for t in found), "a quantised tensor that is no weight")
        whole = all(t.dtype == "int8" or t.shape[1] % 2 == 0 for t in found)  # kernels take two at a time
        self._need(whole, "int4 weights whose rows are of an odd length")
        if not found:
            return
        rows, columns = np.array([t.shape for t in found], np.int64).T
        parameters = Tables(self.file, tables.at[quantized]).tables(4).only((2, 3, 4, 5, 6))
        blocks = parameters.number(4, 1) == _BLOCKWISE
        scales, (points, zeros) = parameters.extents(2, 4)[1], parameters.extents(3, 8)
        expected = np.where(blocks, 0, rows)
        good = (scales == expected) & (zeros == expected) & (parameters.number(6, 4) == 0)
        good &= blocks | ((parameters.number(4, 1) == 0) & ~parameters.has(5))
        self._need(good.all(), "a weight without a scale for each row")
        for start, count in {*zip(points.tolist(), zeros.tolist(), strict=True)}:
            zero = not self.file.data[start : start + 8 * count].any()
            self._need(zero, "a weight whose zero point is not 0")
        if blocks.any():
            self._check_blocks(Tables(self.file, parameters.at[blocks]), rows[blocks], columns[blocks], tensors)

    def _check_blocks(self, parameters: Tables, rows: Ints, columns: Ints, tensors: list[Tensor]) -> None:
        details = parameters.tables(5).only((0, 1, 2))
        sizes, places = details.number(2, 4), details.number(0, 4)
        self._check_indices(places, len(tensors))
        whole = (sizes > 0) & (columns % np.maximum(sizes, 1) == 0) & (details.number(1, 4) == -1)
        self._need(whole.all(), "a weight in blocks that do not divide its rows")
        counts = columns // sizes
        for place, shape in zip(places.tolist(), zip(rows.tolist(), counts.tolist(), strict=True), strict=True):
            self._need(tensors[place] == Tensor(shape, "float16", True), f"scales of blocks that are not {shape}")

    def _read_operators(self, tables: Tables, tensors: int) -> Operators:
        tables.only((0, 1, 2, 3, 4))
        codes = tables.unsigned(0, 4)
        self._need((codes < len(self._codes)).all(), "an operator of a code that is not listed")
        inputs = self.file.lists(*tables.extents(1, 4), MAX_OPERANDS)
        outputs = self.file.lists(*tables.extents(2, 4), 1)
        self._need(all(outputs), "an operator without output")
        results = [one for (one,) in outputs]
        used = np.array([i for row in inputs for i in row], np.int64)
        self._check_indices(np.concatenate([used[used != -1], np.array(results, np.int64)]), tensors)
        rows = np.flatnonzero(tables.has(4))
        return Operators(
            codes=self._codes[codes].tolist(),
            inputs=inputs,
            outputs=results,
            options=Tables(self.file, tables.at[rows]).tables(4),
            options_types=tables.unsigned(3, 1).tolist(),
            with_options={operator: row for row, operator in enumerate(rows.tolist())},
        )

    def _check_indices(self, indices: npt.NDArray[np.int64], count: int) -> None:
        self._need(((indices >= 0) & (indices < count)).all(), f"a tensor beyond the last, {count - 1}")

    def _read_signatures(self, tables: Tables, subgraphs: list[Subgraph]) -> dict[str, Signature]:
        names, indices = tables.only((0, 1, 2, 4)).names(2), tables.unsigned(4, 4).tolist()
        one_each = sorted(indices) == list(range(len(subgraphs))) and len(set(names)) == len(names)
        self._need(one_each and bool(names), f"{len(subgraphs)} subgraphs, but other signatures: {names[:8]}")
        signatures = {}
        for row, (name, index) in enumerate(zip(names, indices, strict=True)):
            graph, table = subgraphs[index], tables.at_index(row)
            inputs, outputs = (self._read_ports(table.vector(field, MAX_PORTS)) for field in (0, 1))
            for ports, expected in ((inputs, graph.inputs), (outputs, graph.outputs)):
                fitting = sorted(ports.values()) == sorted(expected) and len({*expected}) == len(expected)
                self._need(fitting, f"signature {name!r} does not name the subgraph's inputs and outputs")
            signatures[name] = Signature(graph, inputs, outputs)
        return signatures

    def _read_ports(self, tables: Tables) -> dict[str, int]:
        names, indices = tables.only((0, 1)).names(0), tables.unsigned(1, 4).tolist()
        self._need(len(set(names)) == len(names), "a signature gives two of its tensors one name")
        return dict(zip(names, indices, strict=True))
