"""The native builder: records the decoder's calls as the operations that native/program.h describes.

Three fusions happen while recording: linears of one input and one format become segments of one operation, so that the
input is packed once; an addition to the residual goes into the operation that made its operand; in-place operations
(activation, rotation) return the value they changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edgeslm.decoder import build
from edgeslm.errors import EngineError
from edgeslm.manifest import TensorEntry
from edgeslm.spec import ACTIVATIONS, Attention, DecoderSpec

IDS = -1  # the handle of the token ids, which are no value of the arena
LOGITS = -2  # SLM_LOGITS
MAX_SEGMENTS = 3  # SLM_SEGMENTS


class Op(NamedTuple):
    """One operation; indices point into the tables of its :class:`Program`. Fields as in native/program.h."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: tuple[int, ...] = ()
    biases: tuple[int, ...] = ()  # -1: none
    groups: int = 1
    act: int = 0
    layer: int = 0
    accumulate: bool = False
    scale: float = 1.0
    eps: float = 0.0
    softcap: float = 0.0


@dataclass
class Program:
    """What the native engine executes: operations over values, weights by name."""

    values: list[int] = field(default_factory=list)  # widths
    matrices: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    layers: list[Attention] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)


def build_program(spec: DecoderSpec, tensors: Mapping[str, TensorEntry]) -> Program:
    """The program of a decoder whose weights are stored as ``tensors`` tell."""
    builder = NativeBuilder(spec, tensors)
    build(spec, builder)
    return _select_early(builder.program)


def _select_early(program: Program) -> Program:
    """The rows whose logits are wanted, taken right behind the last attention instead of behind the last layer.

    What follows it works on rows one by one, so those of a prompt, but for the last, need not pass through it.
    """
    ops, widths = program.ops, list(program.values)
    first = 1 + max(i for i, op in enumerate(ops) if op.kind == "attend")
    last = next(i for i, op in enumerate(ops) if op.kind == "select")
    taken: dict[int, int] = {}  # values made before, and their wanted rows
    made: set[int] = set()
    for op in ops[first:last]:
        for value in (*op.inputs, *(op.outputs if op.accumulate else ())):
            if value not in made and value not in taken:
                taken[value] = len(widths)
                widths.append(widths[value])
        made.update(op.outputs)
    renamed = {**taken, ops[last].outputs[0]: taken[ops[last].inputs[0]]}
    selects = [Op("select", (value,), (rows,)) for value, rows in taken.items()]
    behind = [_rename(op, renamed) for op in (*ops[first:last], *ops[last + 1 :])]
    return replace(program, values=widths, ops=[*ops[:first], *selects, *behind])


def _rename(op: Op, names: Mapping[int, int]) -> Op:
    return op._replace(
        inputs=tuple(names.get(value, value) for value in op.inputs),
        outputs=tuple(names.get(value, value) for value in op.outputs),
    )


class NativeBuilder:
    """A :class:`~edgeslm.builder.Builder` whose values are indices into the arena's table."""

    def __init__(self, spec: DecoderSpec, tensors: Mapping[str, TensorEntry]) -> None:
        self.program = Program()
        self._spec, self._tensors = spec, tensors

    def _value(self, width: int) -> int:
        self.program.values.append(width)
        return len(self.program.values) - 1

    def _matrix(self, name: str) -> int:
        return _index(self.program.matrices, name)

    def _vector(self, name: str) -> int:
        return _index(self.program.vectors, name)

    def _emit(self, op: Op) -> int:
        self.program.ops.append(op)
        return op.outputs[0]

    def token_ids(self) -> int:
        return IDS

    def embed(self, ids: int, table: str, scale: float) -> int:
        out = self._value(self._spec.hidden)
        return self._emit(Op("embed", (), (out,), (self._matrix(table),), scale=scale))

    def rms_norm(self, x: int, weight: str, eps: float, groups: int = 1) -> int:
        out = self._value(self.program.values[x])
        return self._emit(Op("norm", (x,), (out,), (self._vector(weight),), groups=groups, eps=eps))

    def linear(self, x: int, weight: str, bias: bool = False) -> int:
        out = self._value(self._tensors[weight].shape[0])
        weights, biases = (self._matrix(weight),), (self._vector(weight + ".bias") if bias else -1,)
        last = self.program.ops[-1]
        if self._can_join(last, x, weight):
            joined = last._replace(
                outputs=(*last.outputs, out), weights=last.weights + weights, biases=last.biases + biases
            )
            self.program.ops[-1] = joined
            return out
        return self._emit(Op("linear", (x,), (out,), weights, biases))

    def _can_join(self, op: Op, x: int, weight: str) -> bool:
        if op.kind != "linear" or op.inputs != (x,) or op.accumulate or len(op.weights) == MAX_SEGMENTS:
            return False
        other, this = self._tensors[self.program.matrices[op.weights[0]]], self._tensors[weight]
        return (other.format, other.group_size) == (this.format, this.group_size)

    def attention(self, q: int, k: int, v: int, cache: int, a: Attention) -> int:
        self.program.layers.append(a)
        self.program.ops.append(Op("kv_store", (q, k, v), (), layer=cache))
        return self._emit(Op("attend", (q,), (self._value(self.program.values[q]),), layer=cache))

    def act_mul(self, gate: int, up: int, act: str) -> int:
        self.program.ops.append(Op("act_mul", (gate, up), (), act=ACTIVATIONS.index(act)))
        return gate

    def add(self, x: int, y: int) -> int:
        last = self.program.ops[-1]
        if last.outputs != (y,) or last.kind not in ("linear", "norm") or last.accumulate or x in last.inputs:
            raise EngineError(f"the native engine adds only what the operation before made, not after {last.kind}")
        self.program.ops[-1] = last._replace(outputs=(x,), accumulate=True)
        return x

    def tap(self, x: int, name: str) -> int:
        return x

    def select_rows(self, x: int) -> int:
        return self._emit(Op("select", (x,), (self._value(self.program.values[x]),)))

    def logits(self, x: int, table: str, softcap: float) -> int:
        return self._emit(Op("linear", (x,), (LOGITS,), (self._matrix(table),), (-1,), softcap=softcap))


def _index(names: list[str], name: str) -> int:
    """Where ``name`` stands in the table, added if need be (a tied head is the embedding's matrix)."""
    if name not in names:
        names.append(name)
    return names.index(name)
