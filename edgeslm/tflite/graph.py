"""One subgraph walked in order: operators, what flows between them, and how much memory that takes."""

from __future__ import annotations

import numpy as np

from edgeslm.tflite.flatbuffer import FlatBuffer, Ints, Tables
from edgeslm.tflite.model import MAX_LIST, Operators, Subgraph, Tensor
from edgeslm.tflite.operators import EMBEDDING_LOOKUP, GATHER, KINDS, RESHAPE, Kind, MisfitError, Node, Result


class GraphCheck:
    """Checks the subgraphs of one file; operators that were met before, in another layer, are not worked out again."""

    def __init__(self, file: FlatBuffer) -> None:
        self._file, self._need = file, file.need
        self._results: dict[tuple[object, ...], Result] = {}

    def check(self, graph: Subgraph, below: dict[int, int]) -> int:
        """Check a subgraph; the most bytes of values that are alive at one time.

        Args:
            below: int32 input → a number that its elements, which are not negative, stay below.

        Raises:
            BundleError: an operator, operand, shape or place that a kernel must not be given.
        """
        operators = graph.operators
        unknown = {*operators.codes} - {*KINDS}
        self._need(not unknown, f"operators {sorted(unknown)}, which no decoder of edgeslm has")
        self._check_order(graph)
        options = self._options(operators)
        for at, (code, inputs, output) in enumerate(
            zip(operators.codes, operators.inputs, operators.outputs, strict=True)
        ):
            operands = tuple(graph.tensors[i] if i >= 0 else None for i in inputs)
            expected, found = self._result(code, options[at], operands), graph.tensors[output]
            if (found.dtype, found.shape) != expected:
                self._need(False, f"operator {code} gives {expected}; {found.dtype} {found.shape} is declared")
            if code in (GATHER, EMBEDDING_LOOKUP):
                table, places = inputs if code == GATHER else inputs[::-1]
                rows = graph.tensors[table].shape[0]
                self._need(below.get(places, rows + 1) <= rows, f"places that may lie beyond {rows} rows of a table")
            elif code == RESHAPE and inputs[0] in below:
                below[output] = below[inputs[0]]
        return _peak(graph)

    def _result(self, code: int, options: tuple[int, ...], operands: tuple[Tensor | None, ...]) -> Result:
        key = (code, options, *map(id, operands))  # equal tensors of a file are one object
        if key not in self._results:
            try:
                self._results[key] = KINDS[code].result(Node(code, options, operands))
            except MisfitError as problem:
                self._need(False, f"operator {code}: {problem}")
        return self._results[key]

    def _check_order(self, graph: Subgraph) -> None:
        """Every value is written once, before it is read, and by nobody else than its operator."""
        operators, never = graph.operators, len(graph.operators.codes)
        written = np.full(len(graph.tensors), never)
        written[[i for i, t in enumerate(graph.tensors) if t.constant]] = -1
        inputs, outputs = list(graph.inputs), list(graph.outputs)
        self._need((written[inputs] == never).all(), "an input is a constant")
        written[inputs] = -1
        results = np.array(operators.outputs, np.int64)
        once = len(np.unique(results)) == len(results) and (written[results] == never).all()
        self._need(once, "an operator writes over another value")
        written[results] = np.arange(never)
        used, at = _uses(operators)
        self._need((written[used] < at).all(), "an operator reads what nothing has written")
        self._need(((written[outputs] >= 0) & (written[outputs] < never)).all(), "an output that no operator writes")

    def _options(self, operators: Operators) -> list[tuple[int, ...]]:
        """The fields of each operator's options, or nothing for one without."""
        values: list[tuple[int, ...]] = [()] * len(operators.codes)
        codes, types = np.array(operators.codes, np.int64), np.array(operators.options_types, np.int64)
        for code in np.unique(codes).tolist():
            kind, of_code = KINDS[code], np.flatnonzero(codes == code)
            self._need((types[of_code] == kind.options).all(), f"operator {code} with options of another kind")
            rows = [operators.with_options.get(at, -1) for at in of_code.tolist()]
            listed = min(rows) >= 0 if kind.options else max(rows) < 0
            self._need(listed, f"operator {code} without its options")
            if kind.fields:
                fields = self._fields(kind, Tables(self._file, operators.options.at[rows]))
                for at, row in zip(of_code.tolist(), fields, strict=True):
                    values[at] = row
            elif kind.options:
                Tables(self._file, operators.options.at[rows]).only(())
        return values

    def _fields(self, kind: Kind, tables: Tables) -> list[tuple[int, ...]]:
        tables.only(range(len(kind.fields)))
        if kind.fields == (0,):
            return self._file.lists(*tables.extents(0, 4), MAX_LIST)
        columns = [tables.number(field, size).tolist() for field, size in enumerate(kind.fields)]
        return list(zip(*columns, strict=True))


def _uses(operators: Operators) -> tuple[Ints, Ints]:
    """(tensor, operator) of every operand."""
    pairs = [(i, at) for at, row in enumerate(operators.inputs) for i in row if i >= 0]
    used, at = np.array(pairs, np.int64).reshape(-1, 2).T
    return used, at


def _peak(graph: Subgraph) -> int:
    """The most bytes between operators, inputs and outputs of the subgraph not counted."""
    operators = graph.operators
    sizes = np.array([0 if t.constant else t.bytes for t in graph.tensors], np.float64)  # may exceed 64 bits in all
    sizes[[*graph.inputs, *graph.outputs]] = 0
    last = np.full(len(sizes), -1)
    results = np.array(operators.outputs, np.int64)
    last[results] = np.arange(len(results))
    used, at = _uses(operators)
    np.maximum.at(last, used, at)
    freed = np.bincount(last[results], weights=sizes[results], minlength=len(results))
    alive = np.cumsum(sizes[results]) - np.concatenate([[0], np.cumsum(freed)[:-1]])
    return int(alive.max(initial=0))
