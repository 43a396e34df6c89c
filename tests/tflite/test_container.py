"""What is accepted of a ``.litertlm`` file, and what is not."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.verify import verify
from edgeslm.errors import BundleError
from edgeslm.tflite.container import check_litertlm
from edgeslm.tflite.flatbuffer import Bytes
from edgeslm.tflite.metadata import check_metadata

BLOCK = 16 << 10


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("litertlm") / "b"
    convert(tiny_checkpoint, folder, to=("litert",), options=Options("int8"), check=False)
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def file(bundle: Bundle) -> Bytes:
    return np.array(bundle.map(bundle.target("litert").files["litertlm"]))


def check(bundle: Bundle, content: Bytes) -> None:
    model = np.frombuffer(bundle.map(bundle.target("litert").files["model"]), np.uint8)
    check_litertlm(content, "m", bundle.spec, model, bundle.read("tokenizer.json"))


def test_a_sound_file_is_accepted(bundle: Bundle, file: Bytes) -> None:
    check(bundle, file)


def test_a_file_cut_anywhere_is_refused(bundle: Bundle, file: Bytes) -> None:
    for end in [*range(0, 1200, 23), *range(1200, len(file), 9973), len(file) - 1]:
        with pytest.raises(BundleError, match="m: "):
            check(bundle, file[:end])


def test_numbers_of_the_header_are_refused_or_do_not_matter(bundle: Bundle, file: Bytes) -> None:
    """No other exception, and no more than what the file holds is read."""
    refused, rng = 0, random.Random(0)
    for place in range(0, 1000, 4):
        changed, number = file.copy(), rng.choice([0, 2**31 - 1, 2**32 - 1, BLOCK])
        changed[place : place + 4] = np.frombuffer(struct.pack("<I", number), np.uint8)
        try:
            check(bundle, changed)
        except BundleError:
            refused += 1
    assert refused > 60


def test_every_section_is_compared(bundle: Bundle, file: Bytes) -> None:
    """A changed byte of the tokenizer or the model is found; what lies between sections is padding."""
    rng = random.Random(0)
    changes = 0
    for _ in range(60):
        changed, at = file.copy(), rng.randrange(2 * BLOCK, len(file))
        changed[at] ^= 1 << rng.randrange(8)
        try:
            check(bundle, changed)
        except BundleError:
            changes += 1
        else:
            assert file[at] == 0, at
    assert changes > 30


def test_the_file_of_another_bundle_is_refused(
    bundle: Bundle, file: Bytes, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    convert(tiny_checkpoint, tmp_path / "b", to=("litert",), options=Options("none"), check=False)
    other = Bundle.open(tmp_path / "b")
    with pytest.raises(BundleError, match=r"its model is not the bundle's \.tflite file"):
        check(other, file)


def test_verify_looks_into_the_file(bundle: Bundle, file: Bytes) -> None:
    path = bundle.file("litert", "litertlm")
    changed = file.copy()
    changed[-1] ^= 1
    path.write_bytes(changed.tobytes())
    try:
        with pytest.raises(BundleError, match=r"model\.litertlm: its model"):
            verify(bundle)
    finally:
        path.write_bytes(file.tobytes())


def message(**fields: bytes) -> bytes:
    """LlmMetadata with other content of single fields; "" leaves one out."""
    sound = {
        "start": b"\x0a\x04\x0a\x02\x08\x01",
        "stop": b"\x12\x04\x0a\x02\x08\x02",
        "sampler": b"\x22\x0e\x08\x02\x10\x01\x1d\x00\x00\x80\x3f\x25\x00\x00\x80\x3f",
        "length": b"\x28\x40",
        "type": b"\x32\x02\x0a\x00",
        "template": b"\x3a\x01x",
    }
    return b"".join({**sound, **fields}.values())


BAD_METADATA = {
    "a token beyond the vocabulary": {"stop": b"\x12\x06\x0a\x04\x08\x80\x80\x04"},
    "a negative token": {"stop": b"\x12\x0d\x0a\x0b\x08" + b"\xff" * 9 + b"\x01"},
    "another context": {"length": b"\x28\x41"},
    "no context": {"length": b""},
    "no end of a number": {"template": b"\x3a\xff"},
    "a length beyond the message": {"template": b"\x3a\x7fx"},
    "an endless number": {"template": b"\x3a" + b"\xff" * 12},
    "no text": {"template": b"\x3a\x01\xff"},
    "not a number": {"sampler": b"\x22\x05\x1d\x00\x00\xc0\x7f"},
    "an unknown field": {"template": b"\x3a\x01x\x7a\x00"},
    "a field twice": {"length": b"\x28\x40\x28\x40"},
    "another kind of model": {"type": b"\x32\x02\x12\x00"},
    "a group": {"template": b"\x3b\x3c"},
}


@pytest.mark.parametrize("fields", BAD_METADATA.values(), ids=BAD_METADATA)
def test_metadata_is_checked(fields: dict[str, bytes]) -> None:
    from tiny_decoders import make_spec

    check_metadata(message(), make_spec())
    with pytest.raises(ValueError):
        check_metadata(message(**fields), make_spec())
