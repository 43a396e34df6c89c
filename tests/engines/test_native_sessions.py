"""Sessions: many, from several threads, closed in any order; errors leave them unchanged."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import SANITIZED

from edgeslm.engines.kv_arrays import layer_kinds
from edgeslm.engines.native import NativeEngine
from edgeslm.errors import ArgumentError, ContextLengthError, EngineError, SessionFileError
from edgeslm.memory import return_free_memory

from .tiny import make_spec, open_pair, random_ids


def _open(threads: int = 2, **fields: Any) -> NativeEngine:
    return open_pair(make_spec(**fields), threads=threads)[0]


def test_sessions_do_not_see_each_other() -> None:
    native = _open()
    ids = [random_ids(native.spec, 40, seed) for seed in range(8)]
    alone = [native.new_session().forward(x) for x in ids]
    sessions = [native.new_session() for _ in ids]
    for i in range(40):
        together = [s.forward(x[i : i + 1]) for s, x in zip(sessions, ids, strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_sessions_of_several_python_threads() -> None:
    native = _open()
    ids = [random_ids(native.spec, 30, seed) for seed in range(6)]
    alone = [native.new_session().forward(x) for x in ids]

    def job(x: Any) -> Any:
        session = native.new_session()
        return [session.forward(x[i : i + 1]) for i in range(len(x))][-1]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(job, ids))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("order", list(itertools.permutations(["engine", "a", "b"])))
def test_closing_in_any_order_and_twice(order: tuple[str, ...]) -> None:
    native = _open()
    things: dict[str, Any] = {"engine": native, "a": native.new_session(), "b": native.new_session()}
    things["a"].forward([1, 2, 3])
    for name in order:
        things[name].close()
        things[name].close()
    for session in (things["a"], things["b"]):
        for call in (lambda s=session: s.forward([1]), lambda s=session: s.truncate(0), lambda s=session: s.length):
            with pytest.raises(EngineError, match="closed"):
                call()
    with pytest.raises(EngineError, match="closed"):
        native.new_session()


def test_dropping_without_closing() -> None:
    native = _open()
    session = native.new_session()
    session.forward([1, 2])
    del native
    gc.collect()
    assert session.forward([3]).shape == (1, 97)  # the session keeps the model, the model its weights


def test_closing_while_another_thread_runs() -> None:
    native = _open()
    session, started, outcome = native.new_session(), threading.Event(), []

    def job() -> None:
        try:
            while True:
                session.forward([1] * 20)
                session.truncate(0)
                started.set()
        except EngineError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=job)
    thread.start()
    started.wait(20)
    native.close()
    thread.join(20)
    assert len(outcome) == 1 and "closed" in outcome[0]


@pytest.mark.parametrize("ids", [[], [-1], [97], [1, 2, 1 << 40], [[1, 2]], [1.5], ["a"], None])
def test_bad_ids_leave_the_session_unchanged(ids: Any) -> None:
    native = _open()
    session = native.new_session()
    session.forward([5, 6])
    with pytest.raises(ArgumentError):
        session.forward(ids)
    assert session.length == 2
    fresh = native.new_session()
    assert np.array_equal(session.forward([7]), fresh.forward([5, 6, 7]))


def test_the_context_is_a_limit() -> None:
    native = _open(context=300)
    session = native.new_session()
    session.forward(random_ids(native.spec, 299))
    with pytest.raises(ContextLengthError, match="299 \\+ 2 tokens do not fit the context of 300"):
        session.forward([1, 2])
    session.forward([1])
    assert session.length == 300
    with pytest.raises(ContextLengthError):
        session.forward([1])


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_out_of_range(length: int) -> None:
    session = _open().new_session()
    session.forward([1, 2, 3])
    with pytest.raises(ArgumentError, match=r"0\.\.3"):
        session.truncate(length)
    assert session.length == 3


@pytest.mark.parametrize("threads", [0, -1, 257, 2.0, True])
def test_impossible_threads(threads: Any) -> None:
    with pytest.raises(ArgumentError, match=r"1\.\.256"):
        _open(threads=threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_and_can_close() -> None:
    native = _open()
    session = native.new_session()
    session.forward([1, 2])
    child = os.fork()
    if child == 0:
        try:
            session.forward([3])
        except EngineError as error:
            session.close()
            native.close()
            del session, native
            gc.collect()
            os._exit(7 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert session.forward([3]).shape == (1, 97)


def test_threads_end_with_the_engine() -> None:
    task = "/proc/self/task"
    if not os.path.isdir(task):  # noqa: PTH112
        pytest.skip("counts threads through /proc")
    before = len(os.listdir(task))  # noqa: PTH208
    native = _open(threads=5)
    sessions = [native.new_session() for _ in range(8)]
    for session in (*sessions, sessions[0].fork()):
        session.forward([1])
    assert len(os.listdir(task)) == before + 4  # noqa: PTH208
    native.close()
    assert len(os.listdir(task)) == before  # noqa: PTH208


def test_a_window_of_one_token_may_be_saved_without_a_single_row(tmp_path: Path) -> None:
    native = _open(attention={"window": 1})
    native.fingerprint = "tiny"
    ids, session, loaded = random_ids(native.spec, 300), native.new_session(), native.new_session()
    expected = session.forward(ids, "all")
    session.truncate(300 - 256)  # the oldest row held is that of the token after
    session.save(tmp_path / "s")
    loaded.load(tmp_path / "s")
    assert np.array_equal(loaded.forward(ids[44:], "all"), expected[44:])


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("reads memory use from /proc")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_fork_takes_memory_only_where_it_is_written_to() -> None:
    native = _open(context=60_000, attention={"n_kv_heads": 4}, layers=1)
    session = native.new_session()
    session.forward(random_ids(native.spec, 600))
    cache: Any = session._cache
    cache.session.truncate(0)
    cache.session.restore(60_000, 60_000)  # 38 MB of rows that nobody computes here
    before = resident_bytes()
    forks = [cache.fork() for _ in range(10)]
    assert resident_bytes() - before < 30e6
    for fork in forks:
        fork.forward(np.array([1], np.int32), 59_000, "last")  # a block each
    assert resident_bytes() - before < 60e6
    assert {fork.session.length for fork in forks} == {59_001} and cache.session.length == 60_000


def test_a_session_that_is_forked_again_and_again_stays_small() -> None:
    """Each step writes to a copy of the last block of each layer, as the fork has the other; 12 MB if they stayed."""
    native = _open(context=60_000, layers=4)
    session = native.new_session()
    session.forward(random_ids(native.spec, 600))
    before = resident_bytes()
    for step in range(150):
        kept = session.fork()
        session.forward(random_ids(native.spec, 1, seed=step))
        kept.close()
    if not SANITIZED:  # it holds what was freed
        assert resident_bytes() - before < 6e6


@pytest.mark.parametrize("kv_dtype", ["f16", "f32", "int8"])
def test_a_saved_session_has_the_bits_of_its_cache(kv_dtype: str, tmp_path: Path) -> None:
    """What was saved, loaded and saved again is the same file, and another kv_dtype refuses it."""
    native = open_pair(make_spec(attention={"window": 40}), kv_dtype=kv_dtype)[0]
    native.fingerprint = "tiny"
    session, loaded = native.new_session(), native.new_session()
    session.forward(random_ids(native.spec, 300))
    session.save(tmp_path / "first")
    loaded.load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    other = open_pair(make_spec(attention={"window": 40}), kv_dtype="f32" if kv_dtype == "f16" else "f16")[0]
    other.fingerprint = "tiny"
    with pytest.raises(SessionFileError, match=f"another kv_type \\('{kv_dtype}'"):
        other.new_session().load(tmp_path / "first")


def test_halves_and_bytes_take_less_memory() -> None:
    sizes, kept = {}, []  # all are kept, and what others have freed is given back: nothing is used again
    for kv_dtype in ("f32", "f16", "int8"):
        native = open_pair(make_spec(context=60_000, layers=1, attention={"head_dim": 64}), kv_dtype=kv_dtype)[0]
        cache: Any = native.new_session()._cache
        kept.append((native, cache))
        gc.collect()
        return_free_memory()
        before = resident_bytes()
        cache.session.restore(60_000, 60_000)
        for layer in range(1):
            rows = [np.ones(shape, dtype) for dtype, shape in layer_kinds(kv_dtype, (2, 60_000, 64))]
            cache.session.write(layer, rows)
            del rows
        gc.collect()
        return_free_memory()
        sizes[kv_dtype] = resident_bytes() - before
    if not SANITIZED:  # a sanitizer holds what was freed, and gives it back when it likes
        assert sizes["f16"] < 0.6 * sizes["f32"] and sizes["int8"] < 0.35 * sizes["f32"]


@pytest.mark.parametrize("kv_dtype", ["", "fp16", "q8", 16])
def test_an_unknown_kv_dtype_is_refused(kv_dtype: Any) -> None:
    with pytest.raises(ArgumentError, match="kv_dtype: expected one of f16, f32, int8"):
        open_pair(make_spec(), kv_dtype=kv_dtype)


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "int8"])
@pytest.mark.parametrize("window", [0, 40])
def test_what_a_fork_copies_is_all_that_it_needs(window: int, kv_dtype: str) -> None:
    spec = make_spec(context=900, attention={"window": window})
    native = open_pair(spec, kv_dtype=kv_dtype)[0]
    ids = random_ids(spec, 900)
    cold = native.new_session().forward(ids, "all")
    session = native.new_session()
    for start, stop in ((0, 3), (3, 37), (37, 250), (250, 500), (500, 640)):  # the last goes round the ring
        session.forward(ids[start:stop])
        fork, short = session.fork(), session.fork()
        assert np.array_equal(fork.forward(ids[stop : stop + 260], "all"), cold[stop : stop + 260])
        short.truncate(stop - 2)  # within what it shares
        assert np.array_equal(short.forward(ids[stop - 2 : stop + 260], "all"), cold[stop - 2 : stop + 260])
    late = session.fork()
    late.forward([1])
    late.truncate(200)  # to rows of the turn before, in the block that it shared
    assert np.array_equal(late.forward(ids[200:460], "all"), cold[200:460])
    assert np.array_equal(session.forward(ids[640:], "all"), cold[640:])
