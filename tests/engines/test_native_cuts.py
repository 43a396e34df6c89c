"""A run must not depend on how it was cut, on the number of threads, or on what the session did before: to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from edgeslm.engines.session import Session
from edgeslm.errors import RewindError
from edgeslm.spec import DecoderSpec

from .tiny import Array, error, make_spec, open_pair, random_ids

WINDOW = 40
CHUNK = 256  # SLM_CHUNK
SPECS = {
    "full": make_spec(),
    "window": make_spec(attention={"window": WINDOW}, context=2000),
    "shared_head": make_spec(attention={"n_heads": 20, "n_kv_heads": 1, "head_dim": 8}),
    "separate_heads": make_spec(attention={"n_kv_heads": 4, "softcap": 2.0, "window": 3}),
}
FORMS = [("f32", "f32"), ("f16", "int8"), ("q8", "f16"), ("q4", "int8")]  # of weights, and of keys and values


def run(session: Session, ids: Array, cuts: list[int]) -> Array:
    """All logits of ids[:cuts[-1]], run piece by piece."""
    pieces = zip([0, *cuts], cuts, strict=False)
    return np.concatenate([session.forward(ids[a:b], "all") for a, b in pieces if b > a])


@pytest.mark.parametrize(("form", "kv_dtype"), FORMS)
@pytest.mark.parametrize("name", SPECS)
def test_cold_chunked_and_one_by_one_are_equal(name: str, form: str, kv_dtype: str) -> None:
    native, _ = open_pair(SPECS[name], form, kv_dtype=kv_dtype)
    n = 300
    ids = random_ids(native.spec, n)
    cold = native.new_session().forward(ids, "all")
    assert np.array_equal(cold, run(native.new_session(), ids, list(range(1, n + 1))))
    w = WINDOW
    assert np.array_equal(cold, run(native.new_session(), ids, [w - 1, w, w + 1, 2 * w + 3, 150, 287, n]))
    assert np.array_equal(cold, run(native.new_session(), ids, [1, CHUNK, CHUNK + 1, n]))


@pytest.mark.parametrize(("form", "kv_dtype"), FORMS)
def test_threads_do_not_change_a_bit(form: str, kv_dtype: str) -> None:
    results = []
    for threads in (1, 2, 3, 7):
        native, _ = open_pair(make_spec(), form, threads=threads, kv_dtype=kv_dtype)
        assert native.threads == threads
        session = native.new_session()
        results.append(run(session, random_ids(native.spec, 390), [80, 81, 90, 380, 381, 390]))
        native.close()
    assert all(np.array_equal(r, results[0]) for r in results)


@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
@pytest.mark.parametrize("attention", [{}, {"window": 1500}], ids=["full", "window"])
def test_long_sequences_are_merged_alike(attention: dict[str, int], kv_dtype: str) -> None:
    """By groups of blocks and block by block, alone and in tiles (of 8 rows), on few threads and on many."""
    spec: DecoderSpec = make_spec(context=5300, layers=1, attention={"head_dim": 64, **attention})
    ids, steps = random_ids(spec, 5200), [700, 1030, 2049, 4500, 5199]
    found: list[list[Array]] = []
    for threads in (1, 2, 3, 8):
        native, reference = open_pair(spec, threads=threads, kv_dtype=kv_dtype)
        session = native.new_session()
        for step in steps:
            session.forward(ids[session.length : step])
            found.append([session.forward(ids[step : step + 1])])
            session.truncate(step - 35)
            found[-1].append(session.forward(ids[step - 35 : step + 1]))
        native.close()
    for i, pair in enumerate(found):
        assert all(np.array_equal(logits, found[i % len(steps)][0]) for logits in pair)
    if not attention and kv_dtype == "f16":
        expected = reference.new_session().forward(ids[: steps[2] + 1])
        assert error(found[2][0], expected) < 1e-3


@pytest.mark.parametrize("name", SPECS)
def test_truncated_and_continued_is_as_if_never_gone_astray(name: str) -> None:
    native, _ = open_pair(SPECS[name])
    ids, astray = random_ids(native.spec, 300), random_ids(native.spec, 300, seed=9)
    cold = native.new_session().forward(ids, "all")
    session = native.new_session()
    good = 0
    for back, onward, wrong in ((0, 30, 90), (29, 90, 1), (90, 150, 200), (100, 300, 5)):
        session.truncate(back)  # from `good` tokens of ids and some that went astray
        assert back <= good
        assert np.array_equal(session.forward(ids[back:onward], "all"), cold[back:onward])
        session.forward(astray[:wrong])
        good = onward


def test_a_long_windowed_run_equals_the_oracle() -> None:
    """Far beyond the ring's capacity, with chunks that wrap around it."""
    native, reference = open_pair(SPECS["window"])
    ids = random_ids(native.spec, 1500)
    found, expected = (e.new_session().forward(ids, "all") for e in (native, reference))
    assert error(found, expected) < 2e-5


def test_a_ring_rewinds_as_far_as_promised_and_refuses_beyond() -> None:
    native, _ = open_pair(SPECS["window"])
    ids = random_ids(native.spec, 1500)
    cold = native.new_session().forward(ids, "all")
    session = native.new_session()
    session.forward(ids)
    session.truncate(1500 - CHUNK)
    assert np.array_equal(session.forward(ids[1500 - CHUNK :], "all"), cold[1500 - CHUNK :])
    with pytest.raises(RewindError, match="truncate to 0"):
        session.truncate(600)
    assert session.length == 1500
    session.truncate(0)
    assert np.array_equal(session.forward(ids[:300], "all"), cold[:300])
    session.truncate(20)  # the ring holds everything again
    assert np.array_equal(session.forward(ids[20:50], "all"), cold[20:50])


@pytest.mark.parametrize("window", [1, 2, 31, 32, 33, 257, 300])
def test_windows_around_block_sizes(window: int) -> None:
    spec: DecoderSpec = make_spec(attention={"window": window}, context=900)
    native, reference = open_pair(spec)
    ids = random_ids(spec, 700)
    cold = native.new_session().forward(ids, "all")
    assert error(cold, reference.new_session().forward(ids, "all")) < 2e-5
    assert np.array_equal(run(native.new_session(), ids, [100, 101, 357, 614, 700]), cold)
