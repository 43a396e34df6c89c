"""What every engine's sessions do alike: forks, files, turns, cancelling; against runs that were never cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import make_ids, make_spec, make_weights, relative_error, write_bundle

from edgeslm.converters.policy import Options
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import ENGINES, open_engine
from edgeslm.errors import ArgumentError, EngineError, SessionFileError

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
