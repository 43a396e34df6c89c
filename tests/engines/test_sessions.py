"""What every engine's sessions do alike: forks, files, turns, cancelling; against runs that were never cut."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import make_ids, make_spec, make_weights, relative_error, write_bundle

import edgeslm
from edgeslm.converters.policy import Options
from edgeslm.engines import onnxruntime
from edgeslm.engines.protocol import Engine
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.engines.registry import ENGINES, open_engine
from edgeslm.engines.session import forward_together
from edgeslm.errors import ArgumentError, CancelledError, ContextLengthError, EngineError, SessionFileError

SPECS = {"full": make_spec(context=200), "window": make_spec(context=200, attention={"window": 8})}
ROUNDING = {"coreml": 2e-3}  # its states are float16: an element may round the other way where a sum differs
OpenEngine = Callable[[str, str], Engine]


@pytest.fixture(scope="module")
def open_one(tmp_path_factory: pytest.TempPathFactory) -> OpenEngine:
    folder = tmp_path_factory.mktemp("bundles")
    to = dict.fromkeys(target for target, _ in ENGINES.values())
    bundles = {n: write_bundle(folder / n, s, make_weights(s), Options("none"), *to) for n, s in SPECS.items()}
    return lambda engine, spec: open_engine(bundles[spec], engine, threads=1)


@pytest.fixture(params=[(e, s) for e in ENGINES for s in SPECS], ids="-".join)
def engine(request: pytest.FixtureRequest, open_one: OpenEngine) -> Engine:
    return open_one(*request.param)


def close_to(engine: Engine) -> float:
    return ROUNDING.get(engine.name, 1e-5)


def test_a_fork_goes_its_own_way(engine: Engine) -> None:
    ids, other = make_ids(engine.spec, 60), make_ids(engine.spec, 60, seed=2)
    expected = engine.new_session().forward(ids, "all")
    session = engine.new_session()
    session.forward(ids[:40])
    fork = session.fork()
    fork.forward(other[:15])
    assert relative_error(session.forward(ids[40:50], "all"), expected[40:50]) < close_to(engine)
    late = fork.fork()
    fork.close()
    fresh = engine.new_session()
    fresh.forward(np.concatenate([ids[:40], other[:15]]))
    assert np.array_equal(late.ids, fresh.ids)
    assert relative_error(late.forward(other[15:], "all"), fresh.forward(other[15:], "all")) < close_to(engine)
    session.close()
    assert late.length == 40 + 60


def test_a_saved_session_goes_on_where_it_was(engine: Engine, tmp_path: Path) -> None:
    ids = make_ids(engine.spec, 160)
    expected = engine.new_session().forward(ids, "all")
    session, path = engine.new_session(), tmp_path / "s"
    session.save(path)  # an empty one is one too
    for start, stop in ((0, 7), (7, 12), (12, 150)):
        loaded = engine.new_session()
        loaded.forward(ids[::-1][:30])
        loaded.load(path)
        assert loaded.ids.tolist() == ids[:start].tolist()
        assert relative_error(loaded.forward(ids[start:stop], "all"), expected[start:stop]) < close_to(engine)
        loaded.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_gives_sessions(tiny_bundle: Path) -> None:
    with edgeslm.load(tiny_bundle, engine="native") as model, model.session() as session:
        assert isinstance(session, edgeslm.Session)
        assert np.array_equal(session.forward([1, 2, 3], "all"), model.logits([1, 2, 3]))


def test_a_file_of_another_engine_or_bundle_is_refused(open_one: OpenEngine, tmp_path: Path) -> None:
    for name in ENGINES:
        session = open_one(name, "full").new_session()
        session.forward([1, 2, 3])
        session.save(tmp_path / name)
    session = open_one("native", "full").new_session()
    session.forward([4, 5])
    for other in (name for name in ENGINES if name != "native"):
        with pytest.raises(SessionFileError, match=f"another engine \\('{other}', here 'native'\\)"):
            session.load(tmp_path / other)
    with pytest.raises(SessionFileError, match="another bundle"):
        open_one("native", "window").new_session().load(tmp_path / "native")
    assert session.ids.tolist() == [4, 5]


@pytest.mark.parametrize("length", [-1, 4, 1.0, True, "1", None])
def test_lengths_that_cannot_be(engine: Engine, length: Any) -> None:
    session = engine.new_session()
    session.forward([1, 2, 3])
    with pytest.raises(ArgumentError, match=r"expected 0\.\.3"):
        session.truncate(length)
    assert session.length == 3


def test_a_closed_session_says_so(engine: Engine, tmp_path: Path) -> None:
    with engine.new_session() as session:
        session.forward([1])
    calls: list[Callable[[], object]] = [
        *(lambda: session.forward([1]), session.fork, lambda: session.save(tmp_path / "s")),
        *(lambda: session.load(tmp_path / "s"), lambda: session.truncate(0), session.uncancel),
        *(lambda: session.length, lambda: session.ids),
    ]
    for call in calls:
        with pytest.raises(EngineError, match="closed"):
            call()
    session.cancel()
    session.close()


def greedy(engine: Engine, seed: int, count: int = 25) -> list[int]:
    """A completion of some prompt."""
    with engine.new_session() as session:
        token = int(session.forward(make_ids(engine.spec, 10 + seed, seed))[0].argmax())
        tokens = [token]
        while len(tokens) < count:
            tokens.append(int(session.forward(tokens[-1:])[0].argmax()))
    return tokens


def test_eight_threads_with_eight_sessions_give_the_sequential_tokens(engine: Engine) -> None:
    alone = [greedy(engine, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: greedy(engine, seed), range(8)))
    assert together == alone and len({tuple(tokens) for tokens in alone}) > 1


def test_calls_on_one_session_take_turns(engine: Engine, tmp_path: Path) -> None:
    session = engine.new_session()

    def work(seed: int) -> None:
        for _ in range(6):
            session.forward(make_ids(engine.spec, 3, seed))
            session.fork().forward([seed])
            session.save(tmp_path / str(seed))

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    ids = session.ids
    pieces = [tuple(piece) for piece in ids.reshape(-1, 3).tolist()]
    assert sorted(pieces) == sorted([tuple(make_ids(engine.spec, 3, seed).tolist()) for seed in range(5)] * 6)
    expected = engine.new_session().forward([*ids, 1])
    assert relative_error(session.forward([1]), expected) < 1e-5


def test_a_cancel_is_neither_lost_nor_repeated(engine: Engine) -> None:
    session = engine.new_session()
    session.forward([1, 2])
    session.cancel()
    session.cancel()
    with pytest.raises(CancelledError):
        session.forward([3])
    assert session.ids.tolist() == [1, 2]
    fresh = engine.new_session()
    assert relative_error(session.forward([3, 4]), fresh.forward([1, 2, 3, 4])) < 1e-5
    session.cancel()
    assert session.uncancel() and not session.uncancel()
    session.forward([5])


def test_several_sessions_go_on_together(engine: Engine) -> None:
    texts = [make_ids(engine.spec, n, seed=n) for n in (20, 31, 1)]
    sessions = [engine.new_session() for _ in texts]
    first = forward_together(sessions, texts)
    second = forward_together(sessions[::-1], [[4, 5], [6], [7]])[::-1]
    for i, more in enumerate(([7], [6], [4, 5])):
        alone = engine.new_session()
        assert relative_error(first[i : i + 1], alone.forward(texts[i])) < close_to(engine)
        assert relative_error(second[i : i + 1], alone.forward(more)) < close_to(engine)
        assert sessions[i].ids.tolist() == alone.ids.tolist()


@pytest.mark.parametrize("what", ["full", "bad id", "cancelled", "closed"])
def test_where_one_of_several_fails_all_are_as_they_were(engine: Engine, what: str) -> None:
    a, b = engine.new_session(), engine.new_session()
    a.forward([1, 2])
    b.forward([3] * (199 if what == "full" else 5))
    held, error = b.ids.tolist(), {"full": ContextLengthError, "bad id": ArgumentError, "cancelled": CancelledError}
    if what == "cancelled":
        b.cancel()
    if what == "closed":
        b.close()
    with pytest.raises(error.get(what, EngineError)):
        forward_together([a, b], [[3], {"full": [1, 1], "bad id": [130]}.get(what, [4])])
    assert a.ids.tolist() == [1, 2] and (what == "closed" or b.ids.tolist() == held)
    fresh = engine.new_session()
    assert relative_error(a.forward([3, 4]), fresh.forward([1, 2, 3, 4])) < close_to(engine)


def test_a_fork_is_not_cancelled_with_its_origin(engine: Engine) -> None:
    session = engine.new_session()
    session.forward([1, 2])
    session.cancel()
    session.fork().forward([3])
    with pytest.raises(CancelledError):
        session.forward([3])


def test_the_reference_stops_within_a_layer(open_one: OpenEngine) -> None:
    engine, seen = open_one("reference", "full"), []
    session = engine.new_session()

    def tap(name: str, _: Any) -> None:
        seen.append(name)
        session.cancel()

    assert isinstance(engine, ReferenceEngine)
    engine.tap = tap
    with pytest.raises(CancelledError):
        session.forward([1, 2, 3])
    assert seen == ["layers.0"] and session.length == 0


def test_onnxruntime_stops_a_run_under_way(open_one: OpenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "CHUNK_ROWS", 50)
    session, run, chunks = open_one("onnxruntime", "full").new_session(), onnxruntime._Graph.run, []

    def cancel_in_the_second(*arguments: Any) -> None:
        chunks.append(1)
        if len(chunks) == 2:
            session.cancel()
        run(*arguments)

    ids = make_ids(SPECS["full"], 190)
    expected = session.forward(ids, "all")
    session.truncate(20)
    with monkeypatch.context() as patch, pytest.raises(CancelledError):
        patch.setattr(onnxruntime._Graph, "run", cancel_in_the_second)
        session.forward(ids[20:])
    assert len(chunks) == 2 and session.length == 20
    assert relative_error(session.forward(ids[20:], "all"), expected[20:]) < 1e-5
