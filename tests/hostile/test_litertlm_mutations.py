"""``.litertlm`` files from strangers: seeded mutations are refused by our check, or LiteRT-LM runs them.

LiteRT-LM crashes on bad files, so what the check lets through is opened in child processes. Environment:
EDGESLM_MUTATIONS, of which half are tried.
"""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from children import CPU_SECONDS, RAN, in_child
from litertlm_greedy import LitertLm, import_litert_lm

from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.errors import BundleError
from edgeslm.tflite.container import check_litertlm

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

COUNT = int(os.environ.get("EDGESLM_MUTATIONS", "400")) // 2
PER_CHILD = 20
MEMORY = 16 << 30
BLOCK = 16 << 10  # sections begin at multiples of it: the header, then metadata, tokenizer and model
HEADER_USED = 1024
NUMBERS = [0, 1, 2, 9, 16, 255, BLOCK, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]


def mutated(raw: bytes, rng: random.Random) -> bytes:
    changed = bytearray(raw)
    start, end = rng.choice([(0, HEADER_USED)] * 4 + [(BLOCK, BLOCK + 512)] * 2 + [(2 * BLOCK, len(raw))])
    for _ in range(rng.choice([1, 1, 2, 8])):
        action, at = rng.randrange(4), rng.randrange(start, end - 8)
        if action == 0:
            changed[at] = rng.randrange(256)
        elif action == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif action == 2:
            struct.pack_into("<I", changed, at & ~3, rng.choice(NUMBERS))
        else:
            struct.pack_into("<Q", changed, at & ~7, rng.choice([*NUMBERS, len(raw), 2**62, 2**64 - BLOCK]))
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def test_mutated_files_are_refused_or_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import_litert_lm()
    convert(tiny_checkpoint, tmp_path / "b", to=("litert",), options=Options("int8"), check=False)
    bundle = Bundle.open(tmp_path / "b")
    files = bundle.target("litert").files
    model = np.frombuffer(bundle.map(files["model"]), np.uint8)
    tokenizer, raw = bundle.read("tokenizer.json"), bundle.read(files["litertlm"])
    accepted = [raw]
    for seed in range(COUNT):
        changed = mutated(raw, random.Random(seed))
        try:
            check_litertlm(np.frombuffer(changed, np.uint8), "m", bundle.spec, model, tokenizer)
        except BundleError:
            continue
        accepted.append(changed)
    assert COUNT // 50 < len(accepted) < COUNT // 2, f"the mutations do not bite: {len(accepted)} accepted"
    log = tmp_path / "log"
    for start in range(0, len(accepted), PER_CHILD):
        group = accepted[start : start + PER_CHILD]
        status = in_child(lambda group=group: run_all(group, tmp_path), log, MEMORY, CPU_SECONDS * PER_CHILD)
        assert status == RAN, log.read_text() if log.exists() else f"status {status} in accepted files from {start} on"


def run_all(group: list[bytes], folder: Path) -> None:
    for number, content in enumerate(group):
        path = folder / f"{number}.litertlm"
        path.write_bytes(content)
        try:
            LitertLm(path, folder).texts(["the little cat"], 2)
        except RuntimeError:  # a template that it cannot render, …
            continue
