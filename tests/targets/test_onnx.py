"""The ONNX graphs against the oracle, run by onnxruntime; what the files hold."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import (
    ArraySource,
    make_ids,
    make_rope,
    make_spec,
    make_weights,
    relative_error,
    replace_attention,
    replace_block,
    replace_mlp,
    replace_rope,
    write_bundle,
)

from edgeslm.bundle import Bundle
from edgeslm.bundle_weights import BundleWeights
from edgeslm.converters.data_file import ALIGNMENT, DataPlan, plan_data, write_data
from edgeslm.converters.policy import Options
from edgeslm.converters.to_onnx import build_graph, graph_constants
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import CheckpointError, MissingExtraError
from edgeslm.formats import FORMATS
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope

CONFIGS: dict[str, DecoderSpec] = {
    "head_dim 16, fused rotation": make_spec(),
    "head_dim 8": make_spec(head_dim=8),
    "head_dim 20, padded heads": make_spec(head_dim=20),
    "head_dim 10, hidden and inner no multiple of the group": make_spec(head_dim=10, hidden=60, inner=70),
    "head_dim over hidden / heads, one kv head": make_spec(head_dim=32, kv_heads=1),
    "as many kv heads as heads, untied": make_spec(kv_heads=4, tied=False),
    "biases": make_spec(attention={"qkv_bias": True, "out_bias": True}, mlp_bias=True, tied=False),
    "partial rotation, fused": make_spec(head_dim=32, rotary=16),
    "partial rotation, explicit": make_spec(head_dim=20, rotary=12),
    "no rotation": make_spec(attention={"rope": -1}),
    "window": make_spec(attention={"window": 8}),
    "window, explicit rotation": make_spec(head_dim=8, attention={"window": 8}),
    "softcaps": make_spec(attention={"softcap": 3.0}, logit_softcap=4.0),
    "q/k norm per head": make_spec(attention={"qk_norm": "head"}),
    "q/k norm over the width": make_spec(head_dim=8, attention={"qk_norm": "full"}),
    "norms after, embedding scale": make_spec(norm_out=True, embed_scale=8.0),
    "gelu": make_spec(act="gelu"),
    "gelu_tanh": make_spec(act="gelu_tanh"),
    "query temperature": make_spec(rope=make_rope(16, q_beta=0.5, q_period=8)),
}
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
            k: np.frombuffer(raw, p.dtype, p.nbytes // p.dtype.itemsize, e.parts[k].offset).reshape(p.shape)
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


def rich_spec(context: int = 64) -> DecoderSpec:
    """Every field at work; the long frequencies where the context is longer than 48."""
    attention = {"qk_norm": "head", "window": 8, "softcap": 5.0, "qkv_bias": True, "out_bias": True}
    short = make_rope(16).inv_freq
    rope = Rope(short, 1.2, tuple(0.5 * f for f in short), 1.3, 48, q_beta=0.5, q_period=8)
    scales = {"embed_scale": 3.0, "logit_softcap": 6.0, "residual_scale": 0.5}
    spec = make_spec(attention=attention, rope=rope, norm_out=True, mlp_bias=True, context=context, **scales)
    return dataclasses.replace(spec, norm_eps=0.05)


# One change per field; the oracle answers each with other logits.
MUTATIONS: dict[tuple[type, str], Callable[[DecoderSpec], DecoderSpec]] = {
    (DecoderSpec, "vocab_size"): lambda s: dataclasses.replace(s, vocab_size=120),
    (DecoderSpec, "hidden"): lambda s: dataclasses.replace(s, hidden=72),
    (DecoderSpec, "norm_eps"): lambda s: dataclasses.replace(s, norm_eps=0.2),
    (DecoderSpec, "context_length"): lambda s: dataclasses.replace(s, context_length=40),
    (DecoderSpec, "blocks"): lambda s: dataclasses.replace(s, blocks=(*s.blocks, PLAIN), layout=(0, 1)),
    (DecoderSpec, "layout"): lambda s: dataclasses.replace(s, layout=(0,)),
    (DecoderSpec, "ropes"): lambda s: dataclasses.replace(s, ropes=(make_rope(8),)),
    (DecoderSpec, "tied"): lambda s: dataclasses.replace(s, tied=False),
    (DecoderSpec, "embed_scale"): lambda s: dataclasses.replace(s, embed_scale=1.0),
    (DecoderSpec, "logit_softcap"): lambda s: dataclasses.replace(s, logit_softcap=0.0),
    (DecoderSpec, "residual_scale"): lambda s: dataclasses.replace(s, residual_scale=1.0),
    (Block, "mixer"): lambda s: replace_attention(s, n_heads=8),
    (Block, "mlp"): lambda s: replace_mlp(s, inner=70),
    (Block, "norm_in"): lambda s: replace_block(dataclasses.replace(s, residual_scale=1.0), norm_in=False),
    (Block, "norm_out"): lambda s: replace_block(s, norm_out=False),
    (Attention, "n_heads"): lambda s: replace_attention(s, n_heads=2),
    (Attention, "n_kv_heads"): lambda s: replace_attention(s, n_kv_heads=4),
    (Attention, "head_dim"): lambda s: replace_attention(s, head_dim=20),
    (Attention, "scale"): lambda s: replace_attention(s, scale=0.5),
    (Attention, "rope"): lambda s: replace_attention(s, rope=-1),
    (Attention, "window"): lambda s: replace_attention(s, window=9),
    (Attention, "qk_norm"): lambda s: replace_attention(s, qk_norm="full"),
    (Attention, "softcap"): lambda s: replace_attention(s, softcap=2.0),
    (Attention, "qkv_bias"): lambda s: replace_attention(s, qkv_bias=False),
    (Attention, "out_bias"): lambda s: replace_attention(s, out_bias=False),
    (Mlp, "inner"): lambda s: replace_mlp(s, inner=64),
    (Mlp, "act"): lambda s: replace_mlp(s, act="gelu"),
    (Mlp, "bias"): lambda s: replace_mlp(s, bias=False),
    (Rope, "inv_freq"): lambda s: replace_rope(s, inv_freq=(0.3,) * 8),
    (Rope, "scale"): lambda s: replace_rope(s, scale=2.0),
    (Rope, "long_inv_freq"): lambda s: replace_rope(s, long_inv_freq=(0.3,) * 8),
    (Rope, "long_scale"): lambda s: replace_rope(s, long_scale=2.0),
    (Rope, "switch_at"): lambda s: replace_rope(s, switch_at=80),
    (Rope, "q_beta"): lambda s: replace_rope(s, q_beta=2.0),
    (Rope, "q_period"): lambda s: replace_rope(s, q_period=3),
}
PLAIN = make_spec(attention={"softcap": 1.0}).blocks[0]
OF_SHORT_CONTEXTS = {(Rope, "inv_freq"), (Rope, "scale")}


def test_every_field_has_a_mutation() -> None:
    fields = {(kind, f.name) for kind in (DecoderSpec, Block, Attention, Mlp, Rope) for f in dataclasses.fields(kind)}
    assert set(MUTATIONS) == fields


@pytest.mark.parametrize("field", MUTATIONS, ids=lambda f: f"{f[0].__name__}.{f[1]}")
def test_no_field_is_ignored(tmp_path: Path, field: tuple[type, str]) -> None:
    base = rich_spec(40 if field in OF_SHORT_CONTEXTS else 64)
    changed = MUTATIONS[field](base)
    ids = make_ids(changed, 40)
    before, after = (ReferenceEngine(s, make_weights(s)).new_session().forward(ids, "all") for s in (base, changed))
    assert before.shape != after.shape or relative_error(before, after) > 1e-3
    found = exact_engine(tmp_path, changed, make_weights(changed), Options("none")).new_session().forward(ids, "all")
    assert relative_error(found, after) < 2e-5


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
        parts = {str(p.offset) for t in bundle.target("onnx").tensors.values() for p in t.parts.values()}
        assert parts <= offsets  # nothing is stored that the graph does not read


def test_a_tied_table_is_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        spec = make_spec(tied=tied, vocab=512)
        bundle = write_bundle(tmp_path / str(tied), spec, make_weights(spec), Options("int8"))
        sizes[tied] = bundle.file("onnx", "data").stat().st_size
    table = 512 * (64 + 2 * 4)  # int8 values, two scales a row
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
