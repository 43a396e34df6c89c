"""The onnxruntime engine: cuts, sessions, threads, and what it refuses."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import F32Array, make_ids, make_spec, make_weights, relative_error, write_bundle

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.engines import onnxruntime as module
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import ArgumentError, BundleError, ContextLengthError, EngineError, MissingExtraError, RewindError

SPEC = make_spec(attention={"window": 8})
IDS = make_ids(SPEC, 40)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("onnx") / "b", SPEC, make_weights(SPEC), Options("none"))


@pytest.fixture
def engine(bundle: Bundle) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine.open(bundle, 1)


@pytest.fixture(scope="module")
def expected() -> F32Array:
    return ReferenceEngine(SPEC, make_weights(SPEC)).new_session().forward(IDS, "all")


@pytest.mark.parametrize("chunk", [1, 7, 8, 9, 19, 512])
def test_chunks_of_a_long_prompt_change_nothing(
    engine: OnnxRuntimeEngine, expected: F32Array, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk)
    assert relative_error(engine.new_session().forward(IDS, "all"), expected) < 2e-5
    assert relative_error(engine.new_session().forward(IDS), expected[-1:]) < 2e-5


def test_chunks_bound_the_attention_scores(engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_SCORES", 4 * 40 * 10)  # 4 heads, 40 positions: 10 rows
    sizes: list[int] = []
    session, run = engine.new_session(), module._Graph.run

    def spy(graph: Any, binding: Any, inputs: dict[str, Any], logits: F32Array, options: Any) -> None:
        sizes.append(inputs["input_ids"].shape[1])
        run(graph, binding, inputs, logits, options)

    monkeypatch.setattr(module._Graph, "run", spy)
    session.forward(IDS)
    assert sizes == [10, 10, 10, 10]


@pytest.mark.parametrize("back_to", [0, 1, 12, 33, 40])
def test_a_rewound_session_continues_as_a_fresh_one(engine: OnnxRuntimeEngine, back_to: int) -> None:
    rewound, fresh, other = engine.new_session(), engine.new_session(), IDS[::-1].copy()
    rewound.forward(IDS)
    rewound.truncate(back_to)
    assert rewound.length == back_to
    for ids in (other[:3], other[3:4], other[4:20]):
        if back_to and not fresh.length:
            fresh.forward(IDS[:back_to])
        assert relative_error(rewound.forward(ids, "all"), fresh.forward(ids, "all")) < 1e-5


@pytest.fixture
def bounded(engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeEngine:
    """The engine with caches of 8 + 4 rows."""
    monkeypatch.setattr(module, "WINDOW_SLACK", 4)
    return OnnxRuntimeEngine(SPEC, engine._paths, 1)


@pytest.mark.parametrize("slack", [0, 1, 4, 7, 128])
@pytest.mark.parametrize(
    "pieces", [(40,), (5, 3, 1, 12, 1, 1, 17), (1,) * 40, (12, 1, 27), (13, 27), (30, 1, 1, 8)], ids=str
)
def test_bounded_caches_change_nothing(
    engine: OnnxRuntimeEngine, expected: F32Array, monkeypatch: pytest.MonkeyPatch, slack: int, pieces: tuple[int, ...]
) -> None:
    """Prompts shorter and longer than the window and the cache, pieces of any length."""
    monkeypatch.setattr(module, "WINDOW_SLACK", slack)
    session = OnnxRuntimeEngine(SPEC, engine._paths, 1).new_session()
    assert {keys.shape[2] for keys, _ in session._cache._buffers} == {min(8 + slack, SPEC.context_length)}
    rows = [session.forward(piece, "all") for piece in np.split(IDS, np.cumsum(pieces)[:-1])]
    assert relative_error(np.concatenate(rows), expected) < 2e-5


def test_caches_of_windows_do_not_grow_with_the_context(tmp_path: Path) -> None:
    sizes = []
    for context in (1000, 4000):
        spec = make_spec(context=context, attention={"window": 8})
        session = OnnxRuntimeEngine.open(
            write_bundle(tmp_path / str(context), spec, make_weights(spec), Options())
        ).new_session()
        sizes.append([keys.shape for keys, _ in session._cache._buffers])
    assert sizes[0] == sizes[1] and sizes[0][0] == (1, 2, 136, 16)


def test_rows_that_were_dropped_cannot_be_rewound_to(bounded: OnnxRuntimeEngine, expected: F32Array) -> None:
    session = bounded.new_session()
    session.forward(IDS[:12])
    session.truncate(3)  # nothing has been dropped yet
    assert relative_error(session.forward(IDS[3:13], "all"), expected[3:13]) < 2e-5
    session.truncate(13)
    for length in (1, 5, 12):
        with pytest.raises(RewindError, match=f"going on from {length} of 13 tokens .*from 13 on they do"):
            session.truncate(length)
    assert relative_error(session.forward(IDS[13:], "all"), expected[13:]) < 2e-5
    session.truncate(0)
    session.forward(IDS[:10])
    session.truncate(4)
    assert relative_error(session.forward(IDS[4:], "all"), expected[4:]) < 2e-5


def test_a_session_whose_failed_run_dropped_rows_must_start_again(
    bounded: OnnxRuntimeEngine, expected: F32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, session, short = module._Graph.run, bounded.new_session(), bounded.new_session()
    session.forward(IDS[:10])
    short.forward(IDS[:5])

    def failing(*arguments: Any) -> None:
        run(*arguments)
        raise EngineError("onnxruntime failed")

    with monkeypatch.context() as patch:
        patch.setattr(module._Graph, "run", failing)
        for s, ids in ((session, IDS[10:20]), (short, IDS[20:22])):
            with pytest.raises(EngineError, match="failed"):
                s.forward(ids)
    assert (session.length, short.length) == (10, 5)
    for call in (lambda: session.forward(IDS[10:20]), session.fork, lambda: session.truncate(9)):
        with pytest.raises(RewindError, match="truncate to 0"):
            call()
    session.truncate(0)
    assert relative_error(session.forward(IDS, "all"), expected) < 2e-5
    assert relative_error(short.forward(IDS[5:], "all"), expected[5:]) < 2e-5


def test_sessions_are_independent_in_threads(engine: OnnxRuntimeEngine, expected: F32Array) -> None:
    def generate(count: int) -> F32Array:
        session = engine.new_session()
        return np.concatenate([session.forward(IDS[i : i + 1], "all") for i in range(count)])

    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(generate, [40, 17, 33, 25, 40, 8]):
            assert relative_error(rows, expected[: len(rows)]) < 2e-5


def test_all_rows_are_loaded_when_first_wanted(bundle: Bundle) -> None:
    engine = OnnxRuntimeEngine.open(bundle, 1)
    session = engine.new_session()
    session.forward(IDS[:5])
    session.forward(IDS[5:6], "all")
    assert set(engine._graphs) == {"last"}
    session.forward(IDS[6:8], "all")
    assert set(engine._graphs) == {"last", "all"}


def test_the_context_can_be_filled(engine: OnnxRuntimeEngine) -> None:
    session = engine.new_session()
    session.forward(np.resize(IDS, SPEC.context_length))
    assert session.length == SPEC.context_length
    with pytest.raises(ContextLengthError):
        session.forward([1])


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([], ArgumentError),
        ([130], ArgumentError),
        ([-1], ArgumentError),
        ([0.5], ArgumentError),
        ([1] * 65, ContextLengthError),
    ],
)
def test_refused_ids_leave_the_session_as_it_was(
    engine: OnnxRuntimeEngine, expected: F32Array, ids: list[Any], error: type[Exception]
) -> None:
    session = engine.new_session()
    session.forward(IDS[:39])
    with pytest.raises(error):
        session.forward(ids)
    assert session.length == 39
    assert relative_error(session.forward(IDS[39:]), expected[-1:]) < 2e-5


def test_closed_things_say_so(engine: OnnxRuntimeEngine) -> None:
    session, other = engine.new_session(), engine.new_session()
    session.close()
    for call in (lambda: session.forward([1]), lambda: session.truncate(0)):
        with pytest.raises(EngineError, match="closed"):
            call()
    engine.close()
    for call in (lambda: other.forward([1]), engine.new_session):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_threads_are_checked(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="threads"):
        OnnxRuntimeEngine.open(bundle, 0)
    assert OnnxRuntimeEngine.open(bundle, 2).threads == 2
    assert OnnxRuntimeEngine.open(bundle).threads >= 1


def test_without_onnxruntime_the_extra_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"edgeslm\[onnx\]"):
        OnnxRuntimeEngine.open(bundle)


def test_an_onnxruntime_that_follows_paths_out_of_the_bundle_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "1.23.2")
    with pytest.raises(EngineError, match=r"1\.23\.2 lets a graph read files"):
        OnnxRuntimeEngine.open(bundle)


def test_an_onnxruntime_without_bounded_caches_opens_graphs_without_windows_alone(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_bundle(tmp_path / "b", make_spec(), make_weights(make_spec()), Options())
    monkeypatch.setattr("onnxruntime.__version__", "1.28.0")
    with pytest.raises(EngineError, match=r"1\.28\.0 has no bounded caches .* 1\.29 or later"):
        OnnxRuntimeEngine.open(bundle)
    OnnxRuntimeEngine.open(plain)


def test_a_bundle_without_the_target(bundle: Bundle) -> None:
    empty = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, targets={}))
    with pytest.raises(BundleError, match="onnx"):
        OnnxRuntimeEngine.open(empty)


def move_weight(location: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "norm")
        next(e for e in tensor.external_data if e.key == "location").value = location

    return edit


def set_place(key: str, value: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "norm")
        next(e for e in tensor.external_data if e.key == key).value = str(value)

    return edit


def rename_output(model: Any) -> None:
    model.graph.output[0].name = "scores"


def drop_layer(model: Any) -> None:
    kept = [i for i in model.graph.input if ".1." not in i.name]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def unbounded_cache(model: Any) -> None:
    for value in (*model.graph.input, *model.graph.output):
        if ".1." in value.name:
            value.type.tensor_type.shape.dim[2].dim_param = "past"


def unknown_operator(model: Any) -> None:
    model.graph.node[5].op_type = "NoSuchOperator"


EDITS = {
    "a path out of the bundle": move_weight("../outside"),
    "an absolute path": move_weight("/etc/passwd"),
    "a symbolic link": move_weight("link"),
    "no such file": move_weight("absent"),
    "beyond the end": set_place("offset", 1 << 40),
    "negative": set_place("offset", -64),
    "of another length": set_place("length", 4),
    "another output": rename_output,
    "a missing input": drop_layer,
    "a cache of another kind": unbounded_cache,
    "an unknown operator": unknown_operator,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_graph_is_refused_in_one_line(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    import onnx

    bundle = write_bundle(tmp_path / "b", SPEC, make_weights(SPEC), Options("none"))
    for outside in (tmp_path / "outside", tmp_path / "elsewhere"):
        outside.write_bytes(bundle.file("onnx", "data").read_bytes())
    (bundle.folder / "link").symlink_to(tmp_path / "elsewhere")
    path = bundle.file("onnx", "model")
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"model\.onnx") as caught:
        OnnxRuntimeEngine.open(bundle, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no protobuf", bytes(1000)], ids=["empty", "text", "zeros"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    bundle = write_bundle(tmp_path / "b", SPEC, make_weights(SPEC), Options("none"))
    bundle.file("onnx", "model").write_bytes(content)
    with pytest.raises(EngineError):
        OnnxRuntimeEngine.open(bundle, 1)


def test_a_graph_of_another_decoder_is_refused(tmp_path: Path) -> None:
    other = make_spec(head_dim=32)
    bundle = write_bundle(tmp_path / "b", SPEC, make_weights(SPEC), Options("none"))
    foreign = write_bundle(tmp_path / "c", other, make_weights(other), Options("none"))
    for role in ("model", "data"):
        bundle.file("onnx", role).write_bytes(foreign.file("onnx", role).read_bytes())
    with pytest.raises(EngineError, match=r"not the graph of this bundle's decoder \(past_key_values\.0\.key"):
        OnnxRuntimeEngine.open(bundle, 1)


def test_a_longer_context_than_that_of_the_graph_is_refused(bundle: Bundle) -> None:
    spec = dataclasses.replace(SPEC, context_length=SPEC.context_length + 1)
    lying = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, spec=spec))
    with pytest.raises(EngineError, match="context_length: expected 65, found 64"):
        OnnxRuntimeEngine.open(lying)


def test_a_cache_beyond_the_memory_says_so(engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = [(1, 2, 1 << 42, 16)] * 2
    monkeypatch.setattr(engine.graph("last"), "cache_shapes", huge)
    with pytest.raises(EngineError, match="--context"):
        engine.new_session()


def test_a_cut_data_file_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", SPEC, make_weights(SPEC), Options("none"))
    path = bundle.file("onnx", "data")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EngineError):
        OnnxRuntimeEngine.open(bundle, 1)
