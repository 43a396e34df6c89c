"""The safetensors reader on sound, malformed and hostile files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny_models import safetensors_bytes

from edgeslm.converters.safetensors_file import MAX_HEADER_BYTES, read_safetensors
from edgeslm.errors import CheckpointError

WEIGHTS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.float32),
    "c": np.arange(8, dtype=np.float32).reshape(4, 2),
}
SOUND = safetensors_bytes(WEIGHTS)
DATA_BYTES = 4 * (6 + 4 + 8)


def file_of(header: Any, data: bytes = bytes(DATA_BYTES)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = None, offsets: object = None) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [18] if shape is None else shape,
        "data_offsets": offsets or [0, DATA_BYTES],
    }


def write(folder: Path, raw: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(raw)
    return path


def test_reads_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(WEIGHTS, path, metadata={"format": "pt"})
    tensors = read_safetensors(path)
    assert set(tensors) == set(WEIGHTS)
    for name, expected in WEIGHTS.items():
        found = tensors[name].data.view("<f4").reshape(tensors[name].shape)
        np.testing.assert_array_equal(found, expected)


def test_the_hand_made_files_are_sound(tmp_path: Path) -> None:
    found = safetensors.numpy.load_file(write(tmp_path, SOUND))
    for name, expected in WEIGHTS.items():
        np.testing.assert_array_equal(found[name], expected)


MALFORMED = {
    "empty": b"",
    "short": b"\x01\x00",
    "no header": bytes(8),
    "huge header": (1 << 63).to_bytes(8, "little") + b"{}",
    "header beyond the limit": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}",
    "header beyond the file": (100).to_bytes(8, "little") + b"{}",
    "not JSON": file_of(b"{'a': 1}"),
    "not UTF-8": file_of(b'{"\xff": 1}'),
    "a list": file_of([]),
    "deep": file_of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "duplicate keys": file_of(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"),
    "NaN": file_of(b'{"a": NaN}'),
    "an entry that is no object": file_of({"a": 1}),
    "an entry without dtype": file_of({"a": {"shape": [18], "data_offsets": [0, DATA_BYTES]}}),
    "an unknown key": file_of({"a": {**entry(), "stride": 1}}),
    "an unknown dtype": file_of({"a": entry(dtype="F33")}),
    "a dtype that is no string": file_of({"a": entry(dtype=["F32"])}),
    "a wrong dtype": file_of({"a": entry(dtype="BF16")}),
    "a wrong shape": file_of({"a": entry(shape=[17])}),
    "a negative size": file_of({"a": entry(shape=[-18])}),
    "a fractional size": file_of({"a": entry(shape=[18.0])}),
    "true as a size": file_of({"a": entry(shape=[18, True])}),
    "a size beyond 64 bits": file_of({"a": entry(shape=[1 << 70])}),
    "sizes whose product overflows": file_of({"a": entry(shape=[1 << 40, 1 << 40])}),
    "many dimensions": file_of({"a": entry(shape=[1] * 100_000 + [18])}),
    "one offset": file_of({"a": entry(offsets=[DATA_BYTES])}),
    "offsets in reverse": file_of({"a": entry(offsets=[DATA_BYTES, 0])}),
    "offsets beyond the end": file_of({"a": entry(offsets=[4, DATA_BYTES + 4])}),
    "overlap": file_of({"a": entry(), "b": entry(shape=[9], offsets=[36, DATA_BYTES])}),
    "twice the same place": file_of({"a": entry(), "b": entry()}),
    "hole": file_of({"a": entry(shape=[8], offsets=[0, 32]), "b": entry(shape=[9], offsets=[36, DATA_BYTES])}),
    "bytes behind the data": SOUND + b"x",
    "cut short": SOUND[:-1],
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_safetensors(write(tmp_path, MALFORMED[kind]))


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_refused_or_harmless(seed: int, tmp_path: Path) -> None:
    """Whatever is accepted must hand out bytes of the file, in the shape it says."""
    generator = random.Random(seed)
    raw = bytearray(SOUND)
    for _ in range(generator.randint(1, 4)):
        raw[generator.randrange(len(SOUND) - DATA_BYTES)] = generator.randrange(256)
    try:
        tensors = read_safetensors(write(tmp_path, bytes(raw)))
    except CheckpointError as error:
        assert "model.safetensors" in str(error)
        return
    assert sum(t.data.size for t in tensors.values()) == DATA_BYTES


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for size in range(len(SOUND)):
        with pytest.raises(CheckpointError):
            read_safetensors(write(tmp_path, SOUND[:size]))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_safetensors(tmp_path)
