"""The Core ML engine: against the oracle, across cuts and sequences, and Apple's runtime through a stand-in."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_decoders import make_ids, make_spec, make_weights, relative_error, write_bundle

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.engines import coreml
from edgeslm.engines.coreml import CoreMlEngine, causal_mask
from edgeslm.engines.coreml_interpreter.interpreter import Interpreter
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.engines.registry import open_engine
from edgeslm.errors import BundleError, CancelledError, EngineError, RewindError

W = 8
SPECS = {"full": make_spec(context=96), "window": make_spec(context=96, layers=2, attention={"window": W})}
CLOSE = 4e-3  # of the largest logit: keys and values are kept in float16
Bundles = Callable[[str], Bundle]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    folder = tmp_path_factory.mktemp("coreml")

    @cache
    def write(name: str) -> Bundle:
        spec = SPECS[name]
        return write_bundle(folder / name, spec, make_weights(spec), Options("none"), "coreml")

    return write


def oracle(name: str, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    spec = SPECS[name]
    return ReferenceEngine(spec, make_weights(spec)).new_session().forward(ids, "all")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("cuts", [[], [W - 1], [W, 2 * W + 3], [W + 1, W + 2, 50], list(range(1, 60))])
def test_any_cut_gives_what_the_oracle_gives(name: str, cuts: list[int], bundles: Bundles) -> None:
    ids = make_ids(SPECS[name], 60)
    session = open_engine(bundles(name), "coreml").new_session()
    found = np.concatenate([session.forward(part, "all") for part in np.split(ids, cuts)])
    assert relative_error(found, oracle(name, ids)) < CLOSE


def test_long_prompts_run_in_chunks(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = make_ids(SPECS["window"], 60)
    expected = oracle("window", ids)
    engine = open_engine(bundles("window"), "coreml")
    monkeypatch.setattr(coreml, "CHUNK_ROWS", 13)
    assert relative_error(engine.new_session().forward(ids, "all"), expected) < CLOSE
    assert relative_error(engine.new_session().forward(ids), expected[-1:]) < CLOSE
    monkeypatch.setattr(coreml, "CHUNK_SCORES", 4 * 60)
    assert relative_error(engine.new_session().forward(ids, "all"), expected) < CLOSE


@pytest.mark.parametrize("name", SPECS)
def test_sequences_do_not_meet(name: str, bundles: Bundles) -> None:
    """Two sessions in turn, and a second text in the place of the first: nothing stale is read."""
    engine = open_engine(bundles(name), "coreml")
    one, two = make_ids(SPECS[name], 40, seed=1), make_ids(SPECS[name], 40, seed=2)
    first, second = engine.new_session(), engine.new_session()
    for session, ids in ((first, one), (second, two), (first, one), (second, two)):
        start = session.length
        found = session.forward(ids[start : start + 20], "all")
        assert relative_error(found, oracle(name, ids)[start : start + 20]) < CLOSE
    first.truncate(0)
    assert relative_error(first.forward(two[:9], "all"), oracle(name, two[:9])) < CLOSE


def test_layers_that_keep_every_row_rewind_exactly(bundles: Bundles) -> None:
    session = open_engine(bundles("full"), "coreml").new_session()
    ids, other = make_ids(SPECS["full"], 50), make_ids(SPECS["full"], 50, seed=5)
    session.forward(ids)
    for length in (49, 20, 1):
        session.truncate(length)
        tail = np.concatenate([ids[:length], other[:7]])
        assert relative_error(session.forward(other[:7], "all"), oracle("full", tail)[length:]) < CLOSE
        session.truncate(length)


def test_layers_with_a_window_go_back_to_the_start_only(bundles: Bundles) -> None:
    session = open_engine(bundles("window"), "coreml").new_session()
    ids = make_ids(SPECS["window"], 30)
    session.forward(ids)
    session.truncate(30)
    with pytest.raises(RewindError, match="truncate to 0"):
        session.truncate(29)
    session.truncate(0)
    assert relative_error(session.forward(ids), oracle("window", ids)[-1:]) < CLOSE


def test_cancelling_stops_between_operations(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_engine(bundles("window"), "coreml").new_session()
    ids = make_ids(SPECS["window"], 40)
    session.forward(ids[:20])
    steps = 0
    original = Interpreter._run_step

    def cancel_underway(self: Interpreter, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 50:
            session.cancel()
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Interpreter, "_run_step", cancel_underway)
        with pytest.raises(CancelledError):
            session.forward(ids[20:])
    assert steps == 50 and session.length == 20
    assert relative_error(session.forward(ids[20:], "all"), oracle("window", ids)[20:]) < CLOSE


def test_the_mask_is_that_of_hugging_face() -> None:
    low = -np.inf
    assert causal_mask(1, 4).tolist() == [[[[0, 0, 0, 0]]]]
    assert causal_mask(2, 3).tolist() == [[[[0, 0, low], [0, 0, 0]]]]
    assert causal_mask(2, 2).dtype == np.float16


def test_the_engine_tells_what_runs_the_program(bundles: Bundles) -> None:
    engine = open_engine(bundles("full"), threads=2)
    assert (engine.name, engine.isa, engine.kv_type, engine.threads) == ("coreml", "interpreter", "f16", 2)
    session = engine.new_session()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        session.forward([1])


def test_a_program_of_another_decoder_is_refused(tmp_path: Path, bundles: Bundles) -> None:
    bundle = bundles("full")
    longer = dataclasses.replace(bundle.manifest, spec=make_spec(context=97))
    with pytest.raises(BundleError, match="97 tokens of context"):
        CoreMlEngine.open(Bundle(bundle.folder, longer))
    wider = dataclasses.replace(bundle.manifest, spec=make_spec(context=96, vocab=99))
    session = CoreMlEngine.open(Bundle(bundle.folder, wider)).new_session()
    with pytest.raises(EngineError, match=r"logits of shape \[1, 2, 130\]"):
        session.forward([1, 2])


class FakeState:
    """A stand-in for coremltools' MLState."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def read_state(self, name: str) -> Any:
        return self.values[name]

    def write_state(self, name: str, value: Any) -> None:
        self.values[name] = value


class FakeModel:
    """A stand-in for coremltools' MLModel: states change in place, even where a prediction fails."""

    fail = False

    def __init__(self, path: str) -> None:
        self.program = Interpreter.open(Path(path))

    def make_state(self) -> FakeState:
        return FakeState(self.program.new_states())

    def predict(self, data: dict[str, Any], state: FakeState) -> dict[str, Any]:
        outputs, state.values = self.program.run(data, state.values)
        if FakeModel.fail:
            raise RuntimeError("Error compiling\nprogram")
        return outputs


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("coremltools")
    fake.models = ModuleType("models")  # type: ignore[attr-defined]
    fake.models.MLModel = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(FakeModel, "fail", False)


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize("name", SPECS)
def test_on_macos_coremltools_predicts(name: str, bundles: Bundles, tmp_path: Path) -> None:
    """How it is called; that Apple's runtime answers so is not tested anywhere."""
    engine = open_engine(bundles(name), "coreml")
    assert engine.isa == "Core ML"
    ids = make_ids(SPECS[name], 40)
    expected = oracle(name, ids)
    session = engine.new_session()
    session.forward(ids[:20])
    fork = session.fork()
    fork.forward(ids[::-1][:9])
    session.save(tmp_path / "s")
    assert relative_error(session.forward(ids[20:], "all"), expected[20:]) < CLOSE
    session.load(tmp_path / "s")
    FakeModel.fail = True
    with pytest.raises(EngineError, match="Core ML failed: Error compiling program"):
        session.forward(ids[20:30])
    FakeModel.fail = False
    if name == "window":  # the run that failed may have moved the window on
        with pytest.raises(RewindError):
            session.forward(ids[20:])
        session.load(tmp_path / "s")
    assert relative_error(session.forward(ids[20:], "all"), expected[20:]) < CLOSE
