"""Core ML packages against the oracle, run by the interpreter; what the files hold."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coreml_runner import STYLES, CoremlRunner
from decoder_cases import CONFIGS, MUTATIONS, mutated
from tiny_decoders import ArraySource, make_ids, make_rope, make_spec, make_weights, relative_error

from edgeslm.bundle import Bundle
from edgeslm.converters.coreml_states import cache_groups
from edgeslm.converters.coreml_weights import Blob, StoredTensor, encode, plan_weights, write_weights
from edgeslm.converters.policy import Options
from edgeslm.converters.signed_int4 import unpack_int4
from edgeslm.converters.staging import stage
from edgeslm.converters.to_coreml import NOT_RUN, check_options, write_target
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import CheckpointError, MissingExtraError, UnsupportedModelError
from edgeslm.manifest import Manifest
from edgeslm.spec import Attention, DecoderSpec

NONE = Options("none")
LEVELS = [Options("int8"), Options("int4", 32), Options("int4", 64, embed="int8"), Options("int8", 128, embed="int4")]
EXACT = 2e-5  # of max |logit|


def level_name(options: Options) -> str:
    return "-".join(str(v) for v in dataclasses.astuple(options) if v)


def write_bundle(folder: Path, spec: DecoderSpec, weights: ArraySource, options: Options) -> Bundle:
    """A bundle with the target "coreml" alone."""
    values: dict[str, Any] = {"source": "org/tiny", "model_type": "llama", "licence": "mit", "config": {}}
    source: Any = SimpleNamespace(spec=spec, weights=weights, **values)
    with stage(folder, None) as staging:
        target = write_target(source, options, staging, lambda what, done, total: None)
        staging.commit(Manifest(spec, dict(staging.files), {"coreml": target}))
    return Bundle.open(folder, check="full")


def runner(
    folder: Path, spec: DecoderSpec, weights: ArraySource, options: Options = NONE, style: str = "python"
) -> CoremlRunner:
    write_bundle(folder / "b", spec, weights, options)
    return CoremlRunner(folder / "b" / "model.mlpackage", style)


def oracle(spec: DecoderSpec, weights: ArraySource, ids: Any) -> Any:
    return ReferenceEngine(spec, weights).new_session().forward(ids, "all")


def stored(spec: DecoderSpec, weights: ArraySource, options: Options) -> ArraySource:
    """The weights as the file holds them, computed from its definition."""
    plan = plan_weights(spec, options, {})
    return ArraySource({name: decoded(t, weights.arrays[name]) for name, t in plan.tensors.items()})


def decoded(tensor: StoredTensor, rows: Any) -> Any:
    parts = encode(tensor, rows)
    if not tensor.group_size:
        return parts["data"].astype(np.float32).reshape(rows.shape)
    q = unpack_int4(parts["data"]) if tensor.format == "q4" else parts["data"].view(np.int8)
    return (q.reshape(*parts["scale"].shape, -1) * parts["scale"].astype(np.float32)[..., None]).reshape(rows.shape)


@pytest.mark.parametrize("spec", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_the_oracle(tmp_path: Path, spec: DecoderSpec) -> None:
    weights, ids = make_weights(spec), make_ids(spec, 40)
    run, expected = runner(tmp_path, spec, weights), oracle(spec, weights, ids)
    assert relative_error(run.run(ids), expected) < EXACT
    run.restart()
    assert relative_error(run.run(ids, 7, 19, *range(20, 40)), expected) < EXACT


@pytest.mark.parametrize("field", MUTATIONS, ids=lambda f: f"{f[0].__name__}.{f[1]}")
def test_no_field_is_ignored(tmp_path: Path, field: tuple[type, str]) -> None:
    spec, ids, expected = mutated(field)
    assert relative_error(runner(tmp_path, spec, make_weights(spec)).run(ids, 25), expected) < EXACT


@pytest.mark.parametrize("style", STYLES)
def test_both_ways_of_calling_start_at_position_0(tmp_path: Path, style: str) -> None:
    """The temperature of queries depends on the position itself, not on distances; the context fills up to its end."""
    windowed = Attention(4, 2, 16, 0.25, 0, window=8)
    base = make_spec(rope=make_rope(16, q_beta=0.5, q_period=3), context=40)
    block = dataclasses.replace(base.blocks[0], mixer=windowed)
    spec = dataclasses.replace(base, blocks=(*base.blocks, block), layout=(0, 1, 0))
    weights, ids, other = make_weights(spec), make_ids(spec, 40), make_ids(spec, 40, seed=2)
    expected = oracle(spec, weights, ids)
    run = runner(tmp_path, spec, weights, style=style)
    assert relative_error(run.run(ids), expected) < EXACT  # a prompt longer than the window
    run.restart()
    assert relative_error(run.run(ids, 1, 2, 3, 21, 30), expected) < EXACT  # turns
    first, second = CoremlRunner(tmp_path / "b/model.mlpackage", style), run
    second.restart()
    found = [(first.forward(a), second.forward(b)) for a, b in zip(np.split(ids, 8), np.split(other, 8), strict=True)]
    for pieces, want in zip(zip(*found, strict=True), (expected, oracle(spec, weights, other)), strict=True):
        assert relative_error(np.concatenate(pieces), want) < EXACT  # sessions that alternate


def test_column_0_starts_a_sequence_in_used_states(tmp_path: Path) -> None:
    spec = make_spec(attention={"window": 8})
    weights, ids, other = make_weights(spec), make_ids(spec, 30), make_ids(spec, 30, seed=2)
    run = runner(tmp_path, spec, weights)
    run.run(other, 9)
    run.length = 0
    assert relative_error(run.run(ids, 4, 5), oracle(spec, weights, ids)) < EXACT


def test_what_the_mask_hides_is_not_seen(tmp_path: Path) -> None:
    spec = make_spec(layers=1, attention={"window": 8})
    weights, ids = make_weights(spec), make_ids(spec, 20)
    run = runner(tmp_path, spec, weights)
    mask = np.zeros((1, 1, 1, 20), np.float16)
    mask[..., 15] = -np.inf
    logits = []
    for changed in (ids, np.where(np.arange(20) == 15, (ids + 1) % spec.vocab_size, ids)):
        inputs = {"inputIds": changed[None].astype(np.int32), "causalMask": mask}
        logits.append(run.interpreter.run(inputs, run.interpreter.new_states())[0]["logits"][0])
    assert np.array_equal(logits[0][16:], logits[1][16:])


@pytest.mark.parametrize("options", [Options("fp16"), *LEVELS], ids=level_name)
@pytest.mark.parametrize("inner", [192, 96, 70], ids=lambda n: f"inner {n}")
def test_half_precision_stays_near_the_oracle(tmp_path: Path, inner: int, options: Options) -> None:
    spec = make_spec(hidden=128, inner=inner, head_dim=32, attention={"softcap": 20.0, "window": 8}, tied=inner == 96)
    weights, ids = make_weights(spec), make_ids(spec, 40)
    found = runner(tmp_path, spec, weights, options).run(ids, 30)
    error = relative_error(found, oracle(spec, stored(spec, weights, options), ids))
    print(f"{level_name(options)} {inner}: {error:.1e}")
    assert 1e-6 < error < 0.02


def test_large_residuals_do_not_overflow(tmp_path: Path) -> None:
    spec = make_spec(norm_out=True, embed_scale=1e5)
    weights, ids = make_weights(spec), make_ids(spec, 20)
    for name, values in weights.arrays.items():
        if name.endswith("norm_out"):
            weights.arrays[name] = values * np.float32(1e5)
    assert relative_error(runner(tmp_path, spec, weights, Options("fp16")).run(ids), oracle(spec, weights, ids)) < 0.02


def model_of(bundle: Bundle) -> Any:
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString(bundle.file("coreml", "model").read_bytes())


def test_interface_and_metadata(tmp_path: Path) -> None:
    spec = make_spec(context=50)
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("fp16"))
    description = model_of(bundle).description
    ranges = {
        i.name: [(r.lowerBound, r.upperBound) for r in i.type.multiArrayType.shapeRange.sizeRanges]
        for i in description.input
    }
    assert ranges == {"inputIds": [(1, 1), (1, 50)], "causalMask": [(1, 1), (1, 1), (1, 50), (1, 51)]}
    states = {s.name: list(s.type.stateType.arrayType.shape) for s in description.state}
    assert states == {"keyCache": [2, 1, 2, 50, 16], "valueCache": [2, 1, 2, 50, 16], "columnZero": [1]}
    assert [o.name for o in description.output] == ["logits"]
    metadata = description.metadata
    assert metadata.author == "org/tiny" and metadata.license == "mit" and "50 tokens" in metadata.shortDescription
    user = dict(metadata.userDefined)
    assert user["co.huggingface.exporters.name"] == "org/tiny" and user["io.edgeslm.context_length"] == "50"


def test_states_of_windows_are_bounded() -> None:
    wide, narrow, full = (Attention(4, 2, 16, 0.25, 0, window=w) for w in (20, 8, 0))
    base = make_spec(context=50)
    blocks = tuple(dataclasses.replace(base.blocks[0], mixer=a) for a in (narrow, full, wide))
    groups = cache_groups(dataclasses.replace(base, blocks=blocks, layout=(0, 1, 2, 0)))
    assert [(g.names[0], g.layers, g.shape) for g in groups] == [
        ("keyCache", (1,), (1, 1, 2, 50, 16)),
        ("keyCache2", (0, 3), (2, 1, 2, 8, 16)),
        ("keyCache3", (2,), (1, 1, 2, 20, 16)),
    ]
    only = dataclasses.replace(base, blocks=blocks[:1], layout=(0, 0))
    assert [(g.names[1], g.shape) for g in cache_groups(only)] == [("valueCache", (2, 1, 2, 8, 16))]


def test_settings_say_what_the_options_became(tmp_path: Path) -> None:
    spec = make_spec(hidden=128, inner=96, layers=1)
    settings = write_bundle(tmp_path / "a", spec, make_weights(spec), Options("int4", 64)).target("coreml").settings
    assert settings["other_group_sizes"] == {"layers.0.mlp.down": 32} and settings["compute"] == "float16"
    assert settings["states"]["keyCache"] == {"layers": [0], "window": 0} and settings["notes"] == [NOT_RUN]
    spec = make_spec(inner=70, layers=1)
    settings = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("int8")).target("coreml").settings
    assert settings["other_group_sizes"] == {"layers.0.mlp.down": 0}


@pytest.mark.parametrize("group", [32, 70])
@pytest.mark.parametrize("kind", ["q8", "q4"])
def test_scales_are_positive_and_errors_small(kind: str, group: int) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 2 * group)).astype(np.float32)
    rows[0], rows[1], rows[2] = 0, np.abs(rows[1]), -np.abs(rows[2])
    tensor = StoredTensor(kind, group, {})
    parts = encode(tensor, rows)
    assert (parts["scale"] > 0).all() and parts["scale"].shape == (6, 2)
    error = np.linalg.norm(decoded(tensor, rows) - rows) / np.linalg.norm(rows)
    print(f"{kind} {group}: {error:.4f}")
    assert 1e-4 < error < {"q8": 0.01, "q4": 0.11}[kind]


def test_odd_rows_have_no_int4_form() -> None:
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\.mlp\.down.*71"):
        check_options(make_spec(inner=71), Options("int4"))
    check_options(make_spec(inner=71), Options("int8"))


def test_a_tied_table_is_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        spec = make_spec(tied=tied, vocab=512)
        bundle = write_bundle(tmp_path / str(tied), spec, make_weights(spec), Options("int8"))
        sizes[tied] = bundle.file("coreml", "weights").stat().st_size
    table = 512 * (64 + 2 * 2) + 2 * 64  # int8 values, two scales a row, two records
    assert sizes[False] - sizes[True] == table


def test_the_weight_file_is_as_coremltools_writes_it(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import types
    from coremltools.libmilstoragepython import _BlobStorageWriter as Writer

    spec = make_spec(hidden=60, inner=70, head_dim=10)
    options, weights = Options("int4", embed="int8"), make_weights(spec)
    plan = plan_weights(spec, options, {"table": np.arange(30, dtype=np.float32).reshape(10, 3)})
    write_weights(tmp_path / "ours", plan, weights, lambda done, total: None)
    writer, offsets = Writer(str(tmp_path / "theirs")), []
    for name, tensor in plan.tensors.items():
        parts = encode(tensor, weights.arrays[name])
        if not tensor.group_size:
            offsets.append(writer.write_float_data(parts["data"].ravel()))
            continue
        if tensor.format == "q4":
            q = unpack_int4(parts["data"]).ravel()
            offsets.append(writer.write_int4_data(q.astype(types.np_int4_dtype)))
        else:
            offsets.append(writer.write_int8_data(parts["data"].view(np.int8).ravel()))
        offsets.append(writer.write_fp16_data(parts["scale"].ravel().view(np.uint16)))
    offsets.append(writer.write_float_data(plan.constants["table"][1].ravel()))
    del writer
    assert [b.record for b in plan.blobs()] == offsets
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_coremltools_reads_the_package(tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = make_spec(attention={"softcap": 3.0, "window": 8})
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("int4"))
    package = ct.models.MLModel(str(tmp_path / "b/model.mlpackage"), skip_model_load=True)
    assert package.get_spec().specificationVersion == 9
    weights_folder = str(bundle.file("coreml", "weights").parent)
    program = load(package.get_spec(), specification_version=9, file_weights_dir=weights_folder)
    (logits,) = program.functions["main"].outputs  # every type was inferred anew
    assert logits.name == "logits" and logits.shape[0] == 1 and logits.shape[2] == spec.vocab_size
    manifest = json.loads(bundle.file("coreml", "manifest").read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


def test_a_new_package_takes_a_new_name_and_the_old_one_goes(tmp_path: Path) -> None:
    spec = make_spec(layers=1)
    old = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("int8"))
    source: Any = SimpleNamespace(
        spec=spec, weights=make_weights(spec), source="tiny", model_type="llama", licence="", config={}
    )
    with stage(tmp_path / "b", old.manifest) as staging:
        target = write_target(source, Options("int4"), staging, lambda what, done, total: None)
        staging.commit(Manifest(spec, dict(staging.files), {"coreml": target}))
    new = Bundle.open(tmp_path / "b", check="full")
    assert new.file("coreml", "model").relative_to(tmp_path / "b").parts[0] == "model-2.mlpackage"
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["edgeslm.json", "model-2.mlpackage"]


def test_a_source_of_another_shape_is_refused(tmp_path: Path) -> None:
    plan = plan_weights(make_spec(), Options("none"), {})
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.gate: expected shape \(96, 64\), found \(128, 64\)"):
        write_weights(tmp_path / "w", plan, make_weights(make_spec(inner=128)), lambda done, total: None)


def test_without_coremltools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"edgeslm\[coreml\]"):
        check_options(make_spec(), Options("int8"))


def test_blobs_count_bits() -> None:
    assert [Blob(t, (3, 4), 64).bytes for t in ("float32", "float16", "int8", "int4")] == [48, 24, 12, 6]
