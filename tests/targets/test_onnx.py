"""The ONNX graphs against the oracle, run by onnxruntime; what the files hold."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_cases import CONFIGS, MUTATIONS, mutated, rich_spec
from tiny_decoders import (
    ArraySource,
    make_ids,
    make_spec,
    make_weights,
    relative_error,
    write_bundle,
)

from edgeslm.bundle import Bundle
from edgeslm.bundle_weights import BundleWeights
from edgeslm.converters.data_file import ALIGNMENT, DataPlan, plan_data, write_data
from edgeslm.converters.graph_constants import graph_constants
from edgeslm.converters.policy import Options
from edgeslm.converters.to_onnx import build_graph
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import CheckpointError, MissingExtraError
from edgeslm.formats import FORMATS
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope

LEVELS = [
    Options("none"),
    Options("fp16"),
    Options("int8", 32),
    Options("int4", 32),
    Options("int4", 64, embed="int8"),
    Options("int8", 128, embed="int4"),
]


def level_name(options: Options) -> str:
    return "-".join(str(v) for v in dataclasses.astuple(options) if v)


def exact_engine(folder: Path, spec: DecoderSpec, weights: ArraySource, options: Options) -> OnnxRuntimeEngine:
    """The target with float activations, so that nothing but rounding separates it from the oracle."""
    plan = plan_data(spec, options, graph_constants(spec), "model.onnx.data")
    paths: dict[Any, Path] = {"last": folder / "model.onnx", "all": folder / "model_all.onnx"}
    for rows, path in paths.items():
        path.write_bytes(build_graph(spec, plan, rows, accuracy_level=0))
    write_data(folder / plan.file, plan, weights, lambda done, total: None)
    return OnnxRuntimeEngine(spec, paths, threads=1)


def decoded(plan: DataPlan, file: Path) -> ArraySource:
    """Every tensor read back from the data file, by the plan alone."""
    raw, arrays = file.read_bytes(), {}
    for name, e in plan.tensors.items():
        layout = FORMATS[e.format].layout(e.shape, e.group_size)
        parts = {
            k: np.frombuffer(raw, p.dtype, math.prod(p.shape), e.parts[k].offset).reshape(p.shape)
            for k, p in layout.items()
        }
        arrays[name] = FORMATS[e.format].decode(parts, e.shape, e.group_size)
    return ArraySource(arrays)


@pytest.mark.parametrize("options", LEVELS, ids=level_name)
@pytest.mark.parametrize("spec", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_the_oracle(tmp_path: Path, spec: DecoderSpec, options: Options) -> None:
    weights, ids = make_weights(spec), make_ids(spec, 40)
    session = exact_engine(tmp_path, spec, weights, options).new_session()
    plan = plan_data(spec, options, graph_constants(spec), "model.onnx.data")
    expected = ReferenceEngine(spec, decoded(plan, tmp_path / plan.file)).new_session().forward(ids, "all")
    assert relative_error(session.forward(ids, "all"), expected) < 2e-5
    session.truncate(7)
    pieces = [session.forward(ids[7:19], "all"), *(session.forward(ids[i : i + 1]) for i in range(19, 40))]
    assert relative_error(np.concatenate(pieces), expected[7:]) < 2e-5


@pytest.mark.parametrize("options", LEVELS[2:], ids=level_name)
def test_int8_activations_stay_near_the_oracle(tmp_path: Path, options: Options) -> None:
    spec = make_spec(hidden=128, inner=192, head_dim=32)
    bundle, ids = write_bundle(tmp_path / "b", spec, make_weights(spec), options), make_ids(spec, 40)
    expected = ReferenceEngine(spec, BundleWeights(bundle)).new_session().forward(ids, "all")
    found = OnnxRuntimeEngine.open(bundle, 1).new_session().forward(ids, "all")
    # Random weights amplify the rounding of activations; a wrong scale or nibble gives errors of the order of 1.
    assert 1e-5 < relative_error(found, expected) < 0.15


def test_every_field_has_a_mutation() -> None:
    fields = {(kind, f.name) for kind in (DecoderSpec, Block, Attention, Mlp, Rope) for f in dataclasses.fields(kind)}
    assert set(MUTATIONS) == fields


@pytest.mark.parametrize("field", MUTATIONS, ids=lambda f: f"{f[0].__name__}.{f[1]}")
def test_no_field_is_ignored(tmp_path: Path, field: tuple[type, str]) -> None:
    changed, ids, expected = mutated(field)
    found = exact_engine(tmp_path, changed, make_weights(changed), Options("none")).new_session().forward(ids, "all")
    assert relative_error(found, expected) < 2e-5


def initializers(bundle: Bundle, role: str) -> list[Any]:
    import onnx

    return list(onnx.load(bundle.file("onnx", role), load_external_data=False).graph.initializer)


@pytest.mark.parametrize("options", LEVELS, ids=level_name)
def test_every_weight_lies_in_the_one_data_file(tmp_path: Path, options: Options) -> None:
    spec = rich_spec()
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), options)
    size = bundle.file("onnx", "data").stat().st_size
    for role in ("model", "model_all"):
        external = [t for t in initializers(bundle, role) if t.external_data]
        assert sum(len(t.SerializeToString()) for t in initializers(bundle, role) if not t.external_data) < 4096
        for tensor in external:
            place = {e.key: e.value for e in tensor.external_data}
            assert place["location"] == "model.onnx.data"
            assert int(place["offset"]) % ALIGNMENT == 0 and int(place["offset"]) + int(place["length"]) <= size
        offsets = {e.value for t in external for e in t.external_data if e.key == "offset"}
        tables = [t.parts for t in bundle.target("onnx").tensors.values()]
        parts = {str(p.offset) for t in tables for name, p in t.items() if name != "scales_f16"}
        assert parts <= offsets  # nothing is stored that the graph does not read, but for the native engine's scales


def test_a_tied_table_is_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        spec = make_spec(tied=tied, vocab=512)
        bundle = write_bundle(tmp_path / str(tied), spec, make_weights(spec), Options("int8"))
        sizes[tied] = bundle.file("onnx", "data").stat().st_size
    table = 512 * (64 + 2 * (4 + 2))  # int8 values, two scales a row in both precisions
    assert sizes[False] - sizes[True] == table


def test_gaps_between_tensors_are_zero(tmp_path: Path) -> None:
    spec = make_spec(hidden=60, inner=70, head_dim=10)
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("int4"))
    target = bundle.target("onnx")
    raw = np.frombuffer(bundle.file("onnx", "data").read_bytes(), np.uint8)
    covered = np.zeros(len(raw), bool)
    for part in (p for t in target.tensors.values() for p in t.parts.values()):
        assert not covered[part.offset : part.offset + part.bytes].any(), "parts overlap"
        covered[part.offset : part.offset + part.bytes] = True
    last = max(p.offset + p.bytes for t in target.tensors.values() for p in t.parts.values())
    assert not raw[:last][~covered[:last]].any()


def test_declared_logits_and_metadata(tmp_path: Path) -> None:
    import onnx

    spec = make_spec()
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("none"))
    for role, rows in (("model", 1), ("model_all", "tokens")):
        model = onnx.load(bundle.file("onnx", role), load_external_data=False)
        assert model.producer_name == "edgeslm" and model.producer_version
        (logits,) = (o for o in model.graph.output if o.name == "logits")
        dims = [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim]
        assert dims == [1, rows, spec.vocab_size]


def test_data_is_written_in_blocks_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, options = make_spec(vocab=1000), Options("int4")
    weights, plan = make_weights(spec), plan_data(spec, options, graph_constants(spec), "data")
    seen: list[tuple[int, int]] = []
    write_data(tmp_path / "whole", plan, weights, lambda done, total: seen.append((done, total)))
    monkeypatch.setattr("edgeslm.converters.data_file.BLOCK_BYTES", 7 * 64 * 4)
    write_data(tmp_path / "blocks", plan, weights, lambda done, total: seen.append((done, total)))
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "blocks").read_bytes()
    assert seen[-1] == (plan.bytes, plan.bytes) and all(0 < done <= total for done, total in seen)


@pytest.mark.parametrize("options", [Options("int8"), Options("int4", 64)], ids=level_name)
def test_scales_are_stored_twice_and_are_the_same(tmp_path: Path, options: Options) -> None:
    """Also where a half cannot hold all, because a tensor's groups differ by more than its range, or hold nothing."""
    spec = make_spec()
    weights, plan = make_weights(spec), plan_data(spec, options, graph_constants(spec), "data")
    gate, up, down = (weights.arrays[f"layers.0.mlp.{n}"] for n in ("gate", "up", "down"))
    gate *= np.float32(2.0) ** -np.arange(len(gate), dtype=np.float32)[:, None]
    up[:] = 0
    down *= np.float32(1e-28)
    weights.arrays["layers.1.mlp.gate"] *= np.float32(1e35)
    tensors = write_data(tmp_path / "data", plan, weights, lambda done, total: None)
    raw = (tmp_path / "data").read_bytes()
    for name, entry in tensors.items():
        if entry.format == "f32":
            assert entry.scale_exponent == 0
            continue
        scales, halves = (
            np.frombuffer(raw, dtype, entry.parts[part].bytes // dtype.itemsize, entry.parts[part].offset)
            for part, dtype in (("scales", np.dtype("<f4")), ("scales_f16", np.dtype("<f2")))
        )
        np.testing.assert_array_equal(scales, halves.astype(np.float64) * 2.0**entry.scale_exponent)
        if name != "layers.0.mlp.up":
            assert float(np.abs(halves).max()) >= 2**15  # as much of the range as there is
    file = decoded(plan, tmp_path / "data")
    assert not file.arrays["layers.0.mlp.up"].any()
    for name in ("layers.0.mlp.down", "layers.1.mlp.gate"):
        w, found = weights.arrays[name].astype(np.float64), file.arrays[name].astype(np.float64)
        assert np.abs(found - w).max() <= np.abs(w).max() / 8


def test_a_source_of_another_shape_is_refused(tmp_path: Path) -> None:
    spec, other = make_spec(), make_spec(inner=128)
    plan = plan_data(spec, Options("none"), graph_constants(spec), "data")
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.gate: expected shape \(96, 64\), found \(128, 64\)"):
        write_data(tmp_path / "data", plan, make_weights(other), lambda done, total: None)


def test_an_error_of_the_source_comes_through(tmp_path: Path) -> None:
    class Broken(ArraySource):
        def rows(self, name: str, start: int, stop: int) -> Any:
            if name == "layers.1.attn.o":
                raise CheckpointError("layers.1.attn.o: holds NaN")
            return super().rows(name, start, stop)

    spec = make_spec()
    plan = plan_data(spec, Options("none"), graph_constants(spec), "data")
    with pytest.raises(CheckpointError, match="holds NaN"):
        write_data(tmp_path / "data", plan, Broken(make_weights(spec).arrays), lambda done, total: None)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    plan = plan_data(spec, Options("none"), graph_constants(spec), "data")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"edgeslm\[convert\]"):
        build_graph(spec, plan, "last")
