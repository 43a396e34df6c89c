"""The ``.tflite`` graphs against the oracle, run by LiteRT's interpreter; what the files hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from decoder_cases import CONFIGS, MUTATIONS, mutated
from litert_runner import LitertRunner
from tiny_decoders import ArraySource, make_ids, make_spec, make_weights, relative_error

from edgeslm.converters.litert_weights import decode, encode, part_names, storages
from edgeslm.converters.policy import Options
from edgeslm.converters.tflite_graph import Model
from edgeslm.converters.to_litert import check_options, prefill_sizes, settings, write_tflite
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import ArgumentError, CheckpointError, UnsupportedModelError
from edgeslm.spec import DecoderSpec

LEVELS = [Options("int8"), Options("int4", 32), Options("int4", 64, embed="int8"), Options("int8", embed="int4")]


def level_name(options: Options) -> str:
    return "-".join(str(v) for v in dataclasses.astuple(options) if v)


def written(folder: Path, spec: DecoderSpec, weights: ArraySource, options: Options) -> LitertRunner:
    folder.mkdir(exist_ok=True)
    path = folder / f"{level_name(options)}.tflite"
    write_tflite(path, spec, options, weights, lambda done, total: None)
    return LitertRunner(path)


def stored(spec: DecoderSpec, weights: ArraySource, options: Options) -> ArraySource:
    """The weights as the file holds them."""
    arrays = {}
    for name, storage in storages(spec, options).items():
        parts = np.split(weights.arrays[name], storage.parts, axis=-1)
        arrays[name] = np.concatenate([decode(*encode(p, storage), p.shape, storage) for p in parts], axis=-1)
    return ArraySource(arrays)


@pytest.mark.parametrize("spec", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_the_oracle(tmp_path: Path, spec: DecoderSpec) -> None:
    weights, ids = make_weights(spec), make_ids(spec, 60)
    runner = written(tmp_path, spec, weights, Options("none"))
    expected = ReferenceEngine(spec, weights).new_session().forward(ids, "all")
    assert runner.sizes == [8, 32]
    assert relative_error(runner.run(ids, decoded=17), expected[-17:]) < 1e-5  # 43 = 32 + a padded call


@pytest.mark.parametrize("field", MUTATIONS, ids=lambda f: f"{f[0].__name__}.{f[1]}")
def test_no_field_is_ignored(tmp_path: Path, field: tuple[type, str]) -> None:
    spec, ids, expected = mutated(field)
    found = written(tmp_path, spec, make_weights(spec), Options("none")).run(ids, decoded=27)
    assert relative_error(found, expected[-27:]) < 1e-5


@pytest.mark.parametrize("options", LEVELS, ids=level_name)
@pytest.mark.parametrize("inner", [512, 192, 48], ids=lambda n: f"inner {n}")
def test_quantised_logits_stay_near_the_oracle(tmp_path: Path, inner: int, options: Options) -> None:
    spec = make_spec(hidden=128, inner=inner, head_dim=32)
    weights, ids = make_weights(spec), make_ids(spec, 60)
    found = written(tmp_path, spec, weights, options).run(ids, decoded=20)
    expected = ReferenceEngine(spec, stored(spec, weights, options)).new_session().forward(ids, "all")[-20:]
    # Random weights amplify the rounding of activations; a wrong scale or nibble gives errors of the order of 1.
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"{level_name(options)} {inner}: {error:.2e}")
    assert 1e-5 < error < 0.15


@pytest.mark.parametrize("context", [2, 9, 40])
@pytest.mark.parametrize("window", [0, 5])
def test_padding_beyond_the_context_overwrites_nothing(tmp_path: Path, context: int, window: int) -> None:
    attention = {"window": window if window < context else 0}
    spec = make_spec(context=context, attention=attention)
    weights, ids = make_weights(spec), make_ids(spec, context)
    expected = ReferenceEngine(spec, weights).new_session().forward(ids, "all")
    for start in range(context - 1):
        runner = written(tmp_path / str(start), spec, weights, Options("none"))
        found = [runner.decode(int(token)) for token in ids[:start]]
        size = runner.sizes[-1]
        count = min(size, context - 1 - start)
        runner.prefill(ids[start : start + count], size)
        found += [runner.decode(int(token)) for token in ids[start + count :]]
        kept = np.concatenate([expected[:start], expected[start + count :]])
        assert relative_error(np.array(found), kept) < 1e-5, start


def read_model(path: Path) -> Any:
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def test_a_tied_table_is_stored_once_for_all_signatures(tmp_path: Path) -> None:
    spec = make_spec(hidden=128, inner=192)
    for options in LEVELS:
        written(tmp_path, spec, make_weights(spec), options)
        model = read_model(tmp_path / f"{level_name(options)}.tflite")
        tables = [t for graph in model.subgraphs for t in graph.tensors if t.name == b"embed"]
        assert len(tables) == 3 and len({t.buffer for t in tables}) == 1


def test_weights_lie_behind_the_flatbuffer(tmp_path: Path) -> None:
    spec = make_spec(hidden=128, inner=192, tied=False, mlp_bias=True)
    written(tmp_path, spec, make_weights(spec), Options("int4"))
    path = tmp_path / f"{level_name(Options('int4'))}.tflite"
    placed = sorted((b.offset, b.size) for b in read_model(path).buffers if b.offset)
    names = {t.name for t in read_model(path).subgraphs[-1].tensors}
    stored_names = {part for n, s in storages(spec, Options("int4")).items() for part in part_names(n, s.parts)}
    assert {n.encode() for n in stored_names} <= names
    assert all(offset % 64 == 0 for offset, _ in placed)
    ends = [offset + size for offset, size in placed]
    assert all(end <= start for end, (start, _) in zip(ends, placed[1:], strict=False))
    assert ends[-1] == path.stat().st_size


@pytest.mark.parametrize("options", [Options("none"), *LEVELS], ids=level_name)
def test_operators_have_the_versions_that_keep_older_runtimes_out(tmp_path: Path, options: Options) -> None:
    spec = make_spec(hidden=128, inner=192)
    written(tmp_path, spec, make_weights(spec), options)
    model, operators = read_model(tmp_path / f"{level_name(options)}.tflite"), schema.BuiltinOperator
    versions = {(code.builtinCode, code.version) for code in model.operatorCodes}
    levels = {options.quantize, options.embed or options.quantize}
    linear = {version for code, version in versions if code == operators.FULLY_CONNECTED}
    assert linear == {13 if level == "int4" else 12 for level in levels}
    embedding = 1 if options.quantize == "none" else 4
    assert {v for code, v in versions if code == operators.EMBEDDING_LOOKUP} == {embedding}


def test_a_file_beyond_four_gigabytes_runs(tmp_path: Path) -> None:
    """A hole stands for most of the weights; the linear behind it needs 64-bit offsets."""
    rows, x = make_weights(make_spec()).arrays["embed"], np.arange(64, dtype=np.float32)[None]
    model = Model()
    graph = model.graph("linear")
    value = graph.input("x", "float32", (1, 64))
    graph.weight("hole", "int8", (1 << 22, 1 << 10))
    graph.output(
        "y", graph.op("FULLY_CONNECTED", (value, graph.weight("w", "float32", rows.shape), -1), (1, len(rows)))
    )
    offsets, size = model.layout()
    assert offsets["w"] > 1 << 32
    path = tmp_path / "model.tflite"
    with path.open("wb") as file:
        file.write(model.serialize({"hole": np.ones(1 << 22, np.float32)}, offsets))
        file.truncate(size)
        file.seek(offsets["w"])
        file.write(rows.tobytes())
    runner = Interpreter(model_path=str(path)).get_signature_runner("linear")
    assert relative_error(runner(x=x)["y"], x @ rows.T) < 1e-6


def test_settings_name_the_tensors_with_other_blocks() -> None:
    spec = make_spec(hidden=128, inner=96, layers=1)
    assert settings(spec, Options("int4", 64))["other_group_sizes"] == {"layers.0.mlp.down": 32}
    assert settings(make_spec(inner=70, layers=1), Options("int4"))["other_group_sizes"] == {"layers.0.mlp.down": 0}
    assert "other_group_sizes" not in settings(spec, Options("int4", 32))
    assert settings(spec, Options("int8", 64))["group_size"] == 0


def test_settings_name_the_tensors_that_are_cut() -> None:
    widths = {255: 1, 256: 2, 384: 3, 500: 2, 512: 4, 514: 2, 8192: 4}
    for inner, parts in widths.items():
        found = settings(make_spec(inner=inner, layers=1), Options("int8")).get("parts", {})
        assert found == ({"layers.0.mlp.down": parts} if parts > 1 else {}), inner
    assert "parts" not in settings(make_spec(inner=512), Options("int4"))


def test_prefill_sizes_follow_the_context() -> None:
    sizes = {n: prefill_sizes(n) for n in (1, 2, 9, 16, 100, 4096)}
    assert sizes == {1: (1,), 2: (1,), 9: (4,), 16: (8,), 100: (8, 32), 4096: (8, 32, 128, 512)}


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(ArgumentError, match="fp16"):
        check_options(make_spec(), Options("fp16"))
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.mlp\.down.*71"):
        check_options(make_spec(inner=71), Options("int4"))
    check_options(make_spec(inner=71), Options("int8"))


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    weights = make_weights(make_spec(inner=64))
    with pytest.raises(CheckpointError, match=r"mlp\.gate"):
        write_tflite(tmp_path / "m.tflite", make_spec(inner=96), Options("none"), weights, lambda done, total: None)
