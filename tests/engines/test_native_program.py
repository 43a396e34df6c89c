"""The program: what the builder records, and what the C side refuses of a program that is not sound."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from edgeslm import _native
from edgeslm.engines.program import Program, build_program
from edgeslm.errors import ArgumentError, EdgeslmError, EngineError, ModelFormatError

from .tiny import make_spec, make_weights, store

SPEC = make_spec(layers=1)


def kinds(layers: int = 1, **fields: Any) -> list[str]:
    spec = make_spec(layers=layers, **fields)
    tensors, _, _ = store(make_weights(spec))
    return [op.kind + "+" * op.accumulate for op in build_program(spec, tensors).ops]


def test_additions_and_shared_inputs_are_fused() -> None:
    attention, mlp = ["norm", "linear", "kv_store", "attend"], ["linear+", "norm", "linear", "act_mul", "linear+"]
    selects = ["select"] * 2  # of the attention's result and the residual: the last layer's mlp is for wanted rows only
    assert kinds() == ["embed", *attention, *selects, *mlp, "norm", "linear"]
    assert kinds(2) == ["embed", *attention, *mlp, *attention, *selects, *mlp, "norm", "linear"]


def test_additions_go_into_a_norm_behind_the_branch() -> None:
    attention, mlp = ["linear", "kv_store", "attend"], ["linear", "norm+", "linear", "act_mul", "linear", "norm+"]
    found = kinds(block={"norm_in": False, "norm_out": True})
    assert found == ["embed", *attention, "select", "select", *mlp, "norm", "linear"]


def test_selects_are_there_and_stand_together() -> None:
    parts = Parts()
    parts.program.ops = [op for op in parts.program.ops if op.kind != "select"]
    with pytest.raises(ModelFormatError, match=r"operation \d+"):
        parts.open()
    parts = Parts()
    at = kinds().index("select")
    parts.program.ops.insert(at + 3, parts.program.ops[at])
    with pytest.raises(ModelFormatError, match=f"operation {at + 3}"):
        parts.open()


class Parts:
    """What _native.Model takes, ready to be damaged."""

    def __init__(self) -> None:
        tensors, file, _ = store(make_weights(SPEC))
        self.program = build_program(SPEC, tensors)

        def raw(name: str) -> Any:
            at = tensors[name].parts["data"]
            return file[at.offset : at.offset + at.bytes]

        self.weights: list[Any] = [
            ("f32", *tensors[name].shape, 0, raw(name), None, 1.0) for name in self.program.matrices
        ]
        self.vectors = [raw(name).view(np.float32) for name in self.program.vectors]
        self.ropes: list[Any] = [(np.array(SPEC.ropes[0].inv_freq, np.float32), 1.0, 0.0, 0)]
        self.sizes = {"vocab": SPEC.vocab_size, "context": SPEC.context_length}

    def open(self, threads: int = 1) -> _native.Model:
        return _native.Model(self.program, *self.sizes.values(), self.weights, self.vectors, self.ropes, threads, "f32")


def test_the_undamaged_parts_run() -> None:
    session = _native.Session(Parts().open())
    logits = np.empty((1, SPEC.vocab_size), np.float32)
    _native.run([session], [0], [2], np.array([1, 2], np.int32), False, logits)
    assert np.isfinite(logits).all()


def damage_op(parts: Parts, kind: str, fields: dict[str, Any]) -> None:
    i = next(i for i, op in enumerate(parts.program.ops) if op.kind == kind)
    parts.program.ops[i] = parts.program.ops[i]._replace(**fields)


OP_DAMAGE: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"inputs": (value,)}) for kind in ("norm", "linear", "attend", "select") for value in (-1, 99, 1 << 30)),
    *((kind, {"outputs": (value,)}) for kind in ("embed", "norm", "attend") for value in (-1, -2, 99)),
    *((kind, {"weights": (value,)}) for kind in ("embed", "norm") for value in (-1, 99)),
    *((kind, {"layer": value}) for kind in ("kv_store", "attend") for value in (-1, 1, 1 << 30)),
    ("linear", {"outputs": (3, 4)}),
    ("linear", {"weights": (1, 2, 99)}),
    ("linear", {"weights": (), "outputs": (), "biases": ()}),
    ("linear", {"biases": (99, -1, -1)}),
    ("linear", {"softcap": math.nan}),
    ("norm", {"groups": 0}),
    ("norm", {"groups": 5}),
    ("norm", {"eps": -1.0}),
    ("norm", {"eps": math.inf}),
    ("embed", {"scale": math.nan}),
    ("act_mul", {"act": 3}),
    ("act_mul", {"act": -1}),
    ("act_mul", {"inputs": (0, 99)}),
    ("kv_store", {"inputs": (2, 2, 2)}),
    ("select", {"kind": "norm"}),
    ("select", {"kind": "attend", "layer": 1}),
]


@pytest.mark.parametrize(("kind", "fields"), OP_DAMAGE, ids=str)
def test_damaged_operations_are_refused(kind: str, fields: dict[str, Any]) -> None:
    parts = Parts()
    damage_op(parts, kind, fields)
    with pytest.raises(ModelFormatError, match=r"operation \d+"):
        parts.open()


def test_a_program_without_operations_or_cut_short_is_refused() -> None:
    for keep in (0, 1, 5, -1):
        parts = Parts()
        del parts.program.ops[keep:]
        with pytest.raises(ModelFormatError):
            parts.open()


@pytest.mark.parametrize("value", [0, -1, 1 << 40, (1 << 63) - 1])
def test_sizes_out_of_range_are_refused(value: int) -> None:
    for damage in ("vocab", "context", "width", "rows", "columns"):
        parts = Parts()
        if damage in parts.sizes:
            parts.sizes[damage] = value
        elif damage == "width":
            parts.program.values[1] = value
        else:
            w = list(parts.weights[1])
            w[1 if damage == "rows" else 2] = value
            parts.weights[1] = tuple(w)
        with pytest.raises(ModelFormatError):
            parts.open()


def test_a_short_file_names_the_tensor() -> None:
    parts = Parts()
    w = parts.weights[2]
    parts.weights[2] = (*w[:4], w[4][:-1], None, 1.0)
    with pytest.raises(ModelFormatError, match=parts.program.matrices[2]):
        parts.open()


def test_quantised_weights_need_scales_and_a_known_group() -> None:
    for group, scales in ((32, None), (33, np.ones(10_000, np.uint16)), (32, np.ones(3, np.uint16))):
        parts = Parts()
        w = parts.weights[1]
        parts.weights[1] = ("q8", w[1], w[2], group, w[4], scales, 1.0)
        with pytest.raises(ModelFormatError):
            parts.open()


@pytest.mark.parametrize(
    "fields",
    [
        {"n_heads": 3},
        {"n_kv_heads": 0},
        {"head_dim": 0},
        {"rope": 1},
        {"rope": -2},
        {"window": -1},
        {"window": 1 << 40},
        {"scale": math.nan},
        {"softcap": -1.0},
    ],
    ids=str,
)
def test_damaged_layers_are_refused(fields: dict[str, Any]) -> None:
    parts = Parts()
    layer = parts.program.layers[0]
    parts.program.layers[0] = dataclasses.replace(layer, **fields)
    with pytest.raises(ModelFormatError, match=r"layer 0|operation"):
        parts.open()


def test_wrong_calls_of_the_binding() -> None:
    model = Parts().open()
    session = _native.Session(model)
    one, logits = np.array([1], np.int32), np.empty((1, SPEC.vocab_size), np.float32)
    for sessions, starts, counts, ids, rows, out in (
        ([session], [0], [1], one, False, np.empty((2, SPEC.vocab_size), np.float32)),
        ([session], [0], [1], one, True, np.empty((1, SPEC.vocab_size + 1), np.float32)),
        ([session], [0], [0], one[:0], False, logits),
        ([session], [0], [2], one, True, np.empty((2, SPEC.vocab_size), np.float32)),
        ([session], [0], [1], np.array([1, 2], np.int32), False, logits),
        ([session], [0], [1], np.array([SPEC.vocab_size], np.int32), False, logits),
        ([], [], [], one, False, logits),
        ([session], [0, 0], [1], one, False, logits),
        ([session], [0], [1, 1], one, False, logits),
    ):
        with pytest.raises(ArgumentError):
            _native.run(sessions, starts, counts, ids, rows, out)
    with pytest.raises(TypeError):
        _native.run([None], [0], [1], one, False, logits)  # type: ignore[list-item]
    with pytest.raises(EdgeslmError):
        model.__init__(Program(), 1, 1, [], [], [], 1, "f32")  # type: ignore[misc]
    with pytest.raises(ArgumentError):
        Parts().open(threads=257)


def test_the_builder_refuses_an_addition_it_cannot_fuse() -> None:
    from edgeslm.engines.program import NativeBuilder

    tensors, _, _ = store(make_weights(SPEC))
    b = NativeBuilder(SPEC, tensors)
    x = b.embed(b.token_ids(), "embed", 1.0)
    y = b.rms_norm(x, "norm", 1e-5)
    b.rms_norm(x, "norm", 1e-5)
    with pytest.raises(EngineError, match="adds only"):
        b.add(x, y)
