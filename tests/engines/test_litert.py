"""The litert engine: cuts, sessions, threads, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import F32Array, make_ids, make_spec, make_weights, relative_error, write_bundle

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.engines import litert as module
from edgeslm.engines.litert import LitertEngine, prefill_plan
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import (
    ArgumentError,
    BundleError,
    CancelledError,
    ContextLengthError,
    EngineError,
    MissingExtraError,
    RewindError,
)
from edgeslm.spec import DecoderSpec

WINDOW = make_spec(attention={"window": 8}, layers=1)
SPEC = dataclasses.replace(  # a layer that slides, and a full one
    WINDOW, blocks=(WINDOW.blocks[0], make_spec().blocks[0]), layout=(0, 1)
)
FULL = make_spec()
IDS = make_ids(SPEC, SPEC.context_length)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("litert") / "b", SPEC, make_weights(SPEC), Options("none"), "litert")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> LitertEngine:
    bundle = write_bundle(tmp_path_factory.mktemp("litert") / "b", FULL, make_weights(FULL), Options("none"), "litert")
    return LitertEngine.open(bundle, 1)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> LitertEngine:
    return LitertEngine.open(bundle, 1)


def oracle(spec: DecoderSpec) -> F32Array:
    return ReferenceEngine(spec, make_weights(spec)).new_session().forward(IDS, "all")


@pytest.fixture(scope="module")
def expected() -> F32Array:
    return oracle(SPEC)


@pytest.mark.parametrize("piece", [1, 2, 5, 7, 8, 9, 19, 33, 40, 64])
def test_however_a_text_is_cut_the_logits_are_the_oracles(engine: LitertEngine, expected: F32Array, piece: int) -> None:
    session = engine.new_session()
    pieces = np.split(IDS, range(piece, len(IDS), piece))
    found = np.concatenate([session.forward(ids) for ids in pieces])
    last = np.cumsum([len(ids) for ids in pieces]) - 1
    assert relative_error(found, expected[last]) < 1e-5


@pytest.mark.parametrize(
    ("count", "start", "plan"),
    [
        (0, 0, []),
        (1, 0, []),
        (3, 0, []),
        (4, 0, [(4, 8)]),
        (8, 0, [(8, 8)]),
        (9, 0, [(8, 8)]),
        (17, 0, [(17, 32)]),
        (15, 0, [(8, 8), (7, 8)]),
        (41, 0, [(32, 32), (8, 8)]),
        (20, 40, [(8, 8), (8, 8), (4, 8)]),
        (5, 60, []),
        (8, 56, [(8, 8)]),
    ],
)
def test_prompts_are_cut_for_the_signatures(count: int, start: int, plan: list[tuple[int, int]]) -> None:
    assert prefill_plan(count, start, (8, 32), 64) == plan


def test_a_signature_that_would_keep_python_waiting_is_not_used(
    bundle: Bundle, expected: F32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_TOKENS", 8)
    engine = LitertEngine.open(bundle, 1)
    assert engine.prefill == (8,)
    assert relative_error(engine.new_session().forward(IDS), expected[-1:]) < 1e-5


@pytest.mark.parametrize("back_to", [0, 1, 12, 33, 40])
def test_a_full_cache_rewinds_anywhere(full: LitertEngine, back_to: int) -> None:
    expected, session = oracle(FULL), full.new_session()
    session.forward(IDS[:40])
    session.truncate(back_to)
    session.forward(IDS[back_to:41])
    assert relative_error(session.forward(IDS[41:50], "all"), expected[41:50]) < 1e-5


def test_a_window_rewinds_while_it_holds_what_is_needed(engine: LitertEngine, expected: F32Array) -> None:
    session = engine.new_session()
    session.forward(IDS[:8])
    session.truncate(3)  # nothing has been dropped yet
    session.forward(IDS[3:30])
    session.truncate(29)  # one row more than a token sees is kept
    assert relative_error(session.forward(IDS[29:40], "all"), expected[29:40]) < 1e-5
    for length in (1, 20, 38):
        with pytest.raises(RewindError):
            session.truncate(length)
    assert relative_error(session.forward(IDS[40:41]), expected[40:41]) < 1e-5
    session.truncate(0)
    assert relative_error(session.forward(IDS[:20]), expected[19:20]) < 1e-5


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
def test_forks_and_saved_sessions_go_on_alike(
    engine: LitertEngine, expected: F32Array, tmp_path: Path, length: int
) -> None:
    session, loaded = engine.new_session(), engine.new_session()
    session.forward(IDS[:length])
    session.save(tmp_path / "saved")
    fork = session.fork()
    session.forward(IDS[5:25])
    loaded.load(tmp_path / "saved")
    for other in (fork, loaded):
        assert relative_error(other.forward(IDS[length : length + 12], "all"), expected[length : length + 12]) < 1e-5


def test_a_run_that_fails_half_way_leaves_full_caches_as_they_were(
    full: LitertEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, session = oracle(FULL), full.new_session()
    session.forward(IDS[:10])
    fail_after_runs(monkeypatch, 1)
    with pytest.raises(EngineError, match="broken"):
        session.forward(IDS[10:30])
    monkeypatch.undo()
    assert session.length == 10
    assert relative_error(session.forward(IDS[10:30]), expected[29:30]) < 1e-5


def test_a_run_that_fails_half_way_costs_windows_their_past(
    engine: LitertEngine, expected: F32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.new_session()
    session.forward(IDS[:10])
    fail_after_runs(monkeypatch, 1)
    with pytest.raises(EngineError, match="broken"):
        session.forward(IDS[10:30])
    monkeypatch.undo()
    with pytest.raises(RewindError):
        session.forward(IDS[10:30])
    session.truncate(0)
    assert relative_error(session.forward(IDS[:30]), expected[29:30]) < 1e-5


def test_a_cut_that_was_interrupted_is_noticed(
    engine: LitertEngine, expected: F32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, writes = engine.new_session(), []
    session.forward(IDS[:20])

    def interrupted(buffer: Any, values: F32Array) -> None:
        writes.append(buffer)
        if len(writes) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write", interrupted)
        session.truncate(19)
    with pytest.raises(RewindError, match="truncate to 0"):
        session.forward(IDS[19:20])
    session.truncate(0)
    assert relative_error(session.forward(IDS[:20]), expected[19:20]) < 1e-5


def fail_after_runs(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The run after so many does its work and fails."""
    run, runs = module.Runtime.run, []

    def failing(runtime: Any, *arguments: Any) -> None:
        run(runtime, *arguments)
        runs.append(1)
        if len(runs) > count:
            raise EngineError("broken")

    monkeypatch.setattr(module.Runtime, "run", failing)


def test_cancel_stops_between_runs(full: LitertEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    session, run, runs = full.new_session(), module.Runtime.run, []

    def cancelling(runtime: Any, *arguments: Any) -> None:
        run(runtime, *arguments)
        runs.append(1)
        if len(runs) == 2:
            session.cancel()

    monkeypatch.setattr(module.Runtime, "run", cancelling)
    with pytest.raises(CancelledError):
        session.forward(IDS[:50], "all")
    assert len(runs) == 2 and session.length == 0


def test_eight_threads_with_a_session_each(engine: LitertEngine, expected: F32Array) -> None:
    def generate(count: int) -> F32Array:
        session = engine.new_session()
        first = session.forward(IDS[: count // 2])
        return np.concatenate([first, session.forward(IDS[count // 2 : count], "all")])

    counts = [40, 17, 33, 25, 40, 9, 12, 30]
    with ThreadPoolExecutor(8) as pool:
        for count, rows in zip(counts, pool.map(generate, counts), strict=True):
            assert relative_error(rows, expected[count // 2 - 1 : count]) < 1e-5


def test_the_end_of_the_context(engine: LitertEngine, expected: F32Array) -> None:
    session = engine.new_session()
    session.forward(IDS[:60])
    assert relative_error(session.forward(IDS[60:]), expected[-1:]) < 1e-5
    with pytest.raises(ContextLengthError):
        session.forward([1])


def test_closed_things_say_so(bundle: Bundle) -> None:
    engine = LitertEngine.open(bundle, 1)
    session, other = engine.new_session(), engine.new_session()
    session.forward(IDS[:5])
    other.forward(IDS[:5])
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.forward([1])
    engine.close()
    for call in (lambda: other.forward([1]), engine.new_session):
        with pytest.raises(EngineError, match="closed"):
            call()
    other.close()
    engine.close()


def test_threads_are_checked(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError, match="threads"):
        LitertEngine.open(bundle, 0)
    assert LitertEngine.open(bundle, 2).threads == 2


def test_without_the_package_the_extra_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"edgeslm\[litert\]"):
        LitertEngine.open(bundle)


def test_tflite_runtime_alone_cannot_serve(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"edgeslm\[litert\].*tflite-runtime is installed, but"):
        LitertEngine.open(bundle)


def test_an_older_package_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_edge_litert.__version__", "2.1.5")
    with pytest.raises(EngineError, match=r"2\.1\.5 .* expected 2\.3 or later"):
        LitertEngine.open(bundle)


def test_a_bundle_without_the_target(bundle: Bundle) -> None:
    empty = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, targets={}))
    with pytest.raises(BundleError, match="litert"):
        LitertEngine.open(empty)


def test_a_file_that_the_library_refuses(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"gone\.tflite: LiteRT cannot open it") as caught:
        module.Runtime(Path("gone.tflite"), 1)
    assert "\n" not in str(caught.value)


def test_nothing_is_said_and_no_file_is_left(bundle: Bundle) -> None:
    """LiteRT reports on standard error, also when the process ends; its cache of packed weights would be a file."""
    before = {p.name for p in bundle.folder.iterdir()}
    program = (
        "import atexit, sys; from edgeslm.bundle import Bundle; from edgeslm.engines.litert import LitertEngine\n"
        "atexit.register(lambda: print('last words', file=sys.stderr))\n"
        "engine = LitertEngine.open(Bundle.open(sys.argv[1]))\n"
        "print(engine.new_session().forward([1, 2, 3, 4, 5, 6]).shape)\n"
        "print('heard', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, bundle.folder], capture_output=True, text=True, check=True, cwd=bundle.folder
    )
    assert (done.stdout, done.stderr) == ("(1, 130)\n", "heard\nlast words\n")
    assert {p.name for p in bundle.folder.iterdir()} == before


def test_others_are_heard_while_reports_are_caught(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import os

    from edgeslm.engines.litert_runtime import quiet_stderr

    with caplog.at_level("DEBUG", "edgeslm.litert"), quiet_stderr():
        os.write(2, "INFO: [x.cc:1] made\nsomebody else\nWARNING: look\n└ out\n".encode())
    assert capfd.readouterr().err == "somebody else\n"
    assert [r.getMessage() for r in caplog.records] == ["INFO: [x.cc:1] made", "WARNING: look", "└ out"]
