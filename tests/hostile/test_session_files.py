"""Saved sessions from strangers: damaged ones are refused, whole lies are refused or run; nothing else happens.

EDGESLM_MUTATIONS sets how many lies (150 by default).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import RAN, REFUSED, in_child

from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import open_engine
from edgeslm.engines.session_file import _PREAMBLE as PREAMBLE
from edgeslm.engines.session_file import MAX_HEADER_BYTES
from edgeslm.errors import EdgeslmError, EngineError, SessionFileError

COUNT = int(os.environ.get("EDGESLM_MUTATIONS", "150"))
ENGINES = ("native", "onnxruntime", "reference")
IDS = [1, 5, 9, 2, 7, 7, 3]
VALUES = [
    0,
    -1,
    1,
    3,
    2**31,
    2**40,
    2**63,
    10**400,
    1e308,
    -0.5,
    "",
    "f32",
    None,
    True,
    [],
    {},
    [[]],
    [2**40] * 9,
    "\x00",
]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def saved(bundle: Bundle, tmp_path: Path) -> Callable[[str], bytes]:
    """The bytes of a session saved by an engine."""

    def save(name: str) -> bytes:
        session = open_engine(bundle, name, 1).new_session()
        session.forward(IDS)
        session.save(tmp_path / "sound")
        return (tmp_path / "sound").read_bytes()

    return save


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and what lies behind it."""
    size = PREAMBLE.unpack(raw[: PREAMBLE.size])[2]
    return json.loads(raw[PREAMBLE.size : PREAMBLE.size + size]), raw[PREAMBLE.size + size :]


def join(header: object, payload: bytes) -> bytes:
    """A file whose digest is right, whatever it says."""
    text = json.dumps(header).encode()
    magic, version = b"edgeslm\x1a", 1
    return PREAMBLE.pack(magic, version, len(text), hashlib.sha256(text + payload).digest()) + text + payload


def test_the_parts_are_understood(saved: Callable[[str], bytes]) -> None:
    raw = saved("native")
    assert join(*split(raw)) == raw


def test_every_damaged_byte_and_every_cut_is_refused(
    bundle: Bundle, saved: Callable[[str], bytes], tmp_path: Path
) -> None:
    raw, rng, path = saved("native"), random.Random(0), tmp_path / "damaged"
    session = open_engine(bundle, "native", 1).new_session()
    session.forward([4, 4])
    front = len(raw) - len(split(raw)[1]) + 4 * len(IDS)  # all but the rows
    places = [*range(front), *(rng.randrange(front, len(raw)) for _ in range(100)), len(raw) - 1]
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << rng.randrange(8)
        for content in (bytes(flipped), raw[:place]):
            path.write_bytes(content)
            with pytest.raises(SessionFileError, match="damaged: "):
                session.load(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(SessionFileError, match="digest"):
        session.load(path)
    assert session.ids.tolist() == [4, 4]
    session.load(tmp_path / "sound")
    assert session.ids.tolist() == IDS


def lie(raw: bytes, rng: random.Random) -> bytes:
    """A change that the digest does not show: in the header, in the size of an array, in the tokens, in the rows."""
    header, payload = split(raw)
    data, name = bytearray(payload), rng.choice([*header["arrays"]])
    entry = header["arrays"][name]

    def resize() -> None:
        entry["shape"] = [rng.choice([0, 1, d, d + 1, 2 * d, 2**31, 2**47]) for d in entry["shape"]] or [1]

    def write(dtype: Any, low: int, high: int) -> None:
        value = np.array(rng.choice([np.nan, np.inf, -1, 2**31 - 1, 7, 10**6]), np.float64)
        at = rng.randrange(low, max(low + 1, high - 8)) // 4 * 4
        with np.errstate(all="ignore"):
            data[at : at + 8] = value.astype(dtype).tobytes()[:8].ljust(8, b"\0")

    rng.choice(
        [
            lambda: header.update({rng.choice([*header]): rng.choice(VALUES)}),
            lambda: header.pop(rng.choice([*header])),
            lambda: header.update(more=1),
            lambda: header["arrays"].pop(name),
            lambda: header["arrays"].update({rng.choice(["ids", "x", "0.key", "99.key", ""]): entry}),
            lambda: entry.update({rng.choice(["shape", "dtype", "more"]): rng.choice(VALUES)}),
            lambda: entry.update(dtype=rng.choice(["f16", "i8", "i64", "f32"])),
            resize,
            lambda: header.update(length=rng.choice([0, 1, len(IDS) + 1, 2**20, 2**40])),
            lambda: write(np.int32, 0, 4 * len(IDS)),
            lambda: write(np.int64, 4 * len(IDS), 4 * len(IDS) + 16),
            lambda: write(np.float32, 4 * len(IDS) + 8, len(data)),
            lambda: data.extend(bytes(rng.choice([1, 4, 4096]))),
            lambda: data.__delitem__(slice(rng.randrange(len(data)), None)),
        ]
    )()
    return join(header, bytes(data))


def use(engine: Callable[[], Engine], path: Path) -> None:
    """What a user does with a saved session."""
    session = engine().new_session()
    session.load(path)
    session.fork().forward([1, 2, 3])
    session.truncate(session.length // 2)
    session.forward([4])


@pytest.mark.parametrize("name", ENGINES)
def test_lies_are_refused_or_run(name: str, bundle: Bundle, saved: Callable[[str], bytes], tmp_path: Path) -> None:
    raw, path, outcomes = saved(name), tmp_path / "lie", Counter[int]()
    opened = open_engine(bundle, name, 1)
    for seed in range(COUNT // len(ENGINES)):
        path.write_bytes(lie(raw, random.Random(seed)))
        if name == "native":  # in a child, which opens the model itself: threads do not survive a fork
            log = tmp_path / "log"
            status = in_child(lambda: use(lambda: open_engine(bundle, name, 2), path), log)
            assert status in (RAN, REFUSED), f"seed {seed}: {log.read_text() if log.exists() else status}"
        else:
            status = RAN
            try:
                use(lambda: opened, path)
            except EdgeslmError:
                status = REFUSED
        outcomes[status] += 1
    assert outcomes[REFUSED] > sum(outcomes.values()) // 2, f"the lies do not bite: {outcomes}"


def test_sizes_are_checked_before_memory_is_taken(
    bundle: Bundle, saved: Callable[[str], bytes], tmp_path: Path
) -> None:
    header, payload = split(saved("native"))
    session, path = open_engine(bundle, "native", 1).new_session(), tmp_path / "huge"
    for change, what in (
        ({"arrays": {"0.key": {"dtype": "f32", "shape": [2**47, 2**47]}}}, "not what it lists"),
        ({"length": bundle.spec.context_length + 1}, "not what it lists"),
        ({"arrays": {f"{i}.key": {"dtype": "f32", "shape": [0]} for i in range(5000)}}, "not what it lists"),
    ):
        path.write_bytes(join({**header, **change}, payload))
        with pytest.raises(SessionFileError, match=what):
            session.load(path)
    ids = np.zeros(bundle.spec.context_length + 1, np.int32).tobytes()
    path.write_bytes(join({**header, "length": len(ids) // 4}, ids + payload[4 * len(IDS) :]))
    with pytest.raises(SessionFileError, match="context"):
        session.load(path)
    with path.open("rb+") as file:
        file.truncate(1 << 40)  # a sparse file; hashing it would take an hour
    with pytest.raises(SessionFileError, match="no size of a saved session"):
        session.load(path)
    path.write_bytes(PREAMBLE.pack(b"edgeslm\x1a", 1, MAX_HEADER_BYTES + 1, bytes(32)) + bytes(2 * MAX_HEADER_BYTES))
    with pytest.raises(SessionFileError, match="a header of"):
        session.load(path)


def test_what_is_no_file_of_ours(bundle: Bundle, tmp_path: Path) -> None:
    session = open_engine(bundle, "native", 1).new_session()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"Once upon a time" * 100)
    (tmp_path / "newer").write_bytes(PREAMBLE.pack(b"edgeslm\x1a", 2, 0, bytes(32)))
    os.mkfifo(tmp_path / "pipe")
    for name, what in {
        "empty": "has 0 bytes", "text": "not a saved session", "newer": "format version 2",
        "pipe": "not a regular file", ".": "not a regular file", "nothing": "does not exist", "\0": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(SessionFileError, match=what):
            session.load(tmp_path / name)
    for name in ("no/such/folder", ".", "\0"):
        with pytest.raises(SessionFileError, match="cannot be written"):
            session.save(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "newer", "pipe", "text"]


def test_without_a_bundle_nothing_is_saved(tmp_path: Path, bundle: Bundle) -> None:
    engine = open_engine(bundle, "reference")
    engine.fingerprint = ""  # type: ignore[misc]
    for call in (engine.new_session().save, engine.new_session().load):
        with pytest.raises(EngineError, match="belong to a bundle"):
            call(tmp_path / "s")
