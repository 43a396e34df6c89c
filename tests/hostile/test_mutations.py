"""Bundles from strangers: seeded mutations, each opened and run in a child process of its own.

A child may run normally or raise an error of ours. A signal, any other exception, or more than a few seconds of
processor time is a failure. Environment: EDGESLM_MUTATIONS sets how many (400 by default).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from children import RAN, REFUSED, in_child

import edgeslm
from edgeslm.bundle import Bundle
from edgeslm.converters.reference_answer import parse_answer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

COUNT = int(os.environ.get("EDGESLM_MUTATIONS", "400"))

NUMBERS = [
    0,
    -1,
    1,
    3,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 64,
    2**64 - 1,
    10**400,
    1e308,
    -0.5,
    1e-320,
]
VALUES = [
    *NUMBERS,
    "",
    "x",
    None,
    True,
    [],
    {},
    [[]],
    {"a": 1},
    "../x",
    "/etc/passwd",
    "a/../../b",
    "C:\\x",
    "\u0000",
    "." * 600,
]
PATHS = [
    "../outside",
    "/etc/passwd",
    "a/../../b",
    "sub/../model.onnx",
    "",
    ".",
    "..",
    "model.onnx/",
    "con",
    "aux.txt",
    "x\u0000y",
    "a\\b",
    "C:evil",
    "edgeslm.json",
    "model.onnx:stream",
    "~",
    "nothing-here",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "edgeslm.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with a changed file, so that its content is reached."""

    def change(manifest: dict[str, Any]) -> None:
        raw = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}

    edit_manifest(folder, change)


def mutate_value(folder: Path, rng: random.Random) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            *parents, last = rng.choice(places(manifest))
            owner: Any = manifest
            try:
                for key in parents:
                    owner = owner[key]
                action = rng.randrange(4)
                if action == 0:
                    del owner[last]
                elif action == 1 and isinstance(owner[last], int):
                    owner[last] += rng.choice([-64, -16, -1, 1, 16, 64, 2**20])
                elif action == 2 and isinstance(owner, list):
                    owner.extend([owner[last]] * rng.choice([1, 7, 1000]))
                else:
                    owner[last] = rng.choice(VALUES)
            except (KeyError, IndexError, TypeError):
                pass  # an earlier change of this round removed the place

    edit_manifest(folder, change)


def mutate_sizes(folder: Path, rng: random.Random) -> None:
    """Lying offsets, sizes, shapes and groups in the tensor table."""

    def change(manifest: dict[str, Any]) -> None:
        table = manifest["targets"]["onnx"]["tensors"]
        tensor = table[rng.choice(sorted(table))]
        part = tensor["parts"][rng.choice(sorted(tensor["parts"]))]
        rng.choice(
            [
                lambda: part.update(offset=rng.choice(NUMBERS)),
                lambda: part.update(offset=part["offset"] + rng.choice([-64, 16, 64, 4096])),
                lambda: part.update(bytes=rng.choice(NUMBERS)),
                lambda: tensor.update(shape=[rng.choice(NUMBERS), tensor["shape"][-1]]),
                lambda: tensor.update(shape=[d * 2 for d in tensor["shape"]]),
                lambda: tensor.update(group_size=rng.choice([0, 1, 16, 32, 64, 128, 256, 2**31])),
                lambda: tensor.update(format=rng.choice(["f32", "f16", "q8", "q4", "q2", ""])),
            ]
        )()

    edit_manifest(folder, change)


def mutate_spec(folder: Path, rng: random.Random) -> None:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = rng.choice(places(manifest["spec"]))
        owner: Any = manifest["spec"]
        for key in parents:
            owner = owner[key]
        owner[last] = rng.choice([*NUMBERS, True, "gelu", "full", "head", owner[last]])

    edit_manifest(folder, change)


def mutate_path(folder: Path, rng: random.Random) -> None:
    def change(manifest: dict[str, Any]) -> None:
        path, old = rng.choice(PATHS), rng.choice(sorted(manifest["files"]))
        if rng.random() < 0.5:
            manifest["files"][path] = manifest["files"].pop(old)
        target = manifest["targets"]["onnx"]
        if rng.random() < 0.5:
            target["files"][rng.choice(sorted(target["files"]))] = path
        for tensor in target["tensors"].values():
            if rng.random() < 0.2:
                tensor["file"] = path

    edit_manifest(folder, change)


def mutate_bytes(folder: Path, rng: random.Random) -> None:
    """Flip, cut or extend a file; half of the time the hash is made to fit."""
    name = rng.choice(sorted(p.name for p in folder.iterdir() if p.name != "edgeslm.json"))
    raw = bytearray((folder / name).read_bytes())
    for _ in range(rng.choice([1, 1, 4, 64])):
        if raw:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    cut = rng.random()
    if cut < 0.3:
        raw = raw[: rng.randrange(len(raw) + 1)]
    elif cut < 0.4:
        raw += bytes(rng.randrange(1, 5000))
    replace_file(folder / name, bytes(raw))
    if rng.random() < 0.5:
        rehash(folder, name)


def mutate_manifest_text(folder: Path, rng: random.Random) -> None:
    path = folder / "edgeslm.json"
    raw = path.read_bytes()
    deep = rng.choice([500, 5_000, 100_000])
    start = rng.randrange(len(raw))
    path.write_bytes(
        rng.choice(
            [
                raw[:start],
                raw[:start] + bytes([rng.randrange(256)]) + raw[start + 1 :],
                b"[" * deep + b"]" * deep,
                b'{"spec":' * deep + b"1" + b"}" * deep,
                raw.replace(b'"spec"', b'"files"', 1),
                b"\xff\xfe" + raw,
                raw.replace(b"0.", b"NaN,", 1),
                raw.replace(b'"version": "2.0"', b'"version": "3.0"'),
                b"",
            ]
        )
    )


def mutate_links(folder: Path, rng: random.Random) -> None:
    name = rng.choice(sorted(p.name for p in folder.iterdir()))
    moved = folder.with_name(folder.name + "-outside")
    moved.mkdir()
    shutil.move(folder / name, moved / name)
    rng.choice(
        [
            lambda: (folder / name).symlink_to(moved / name),
            lambda: (folder / name).mkdir(),
            lambda: os.mkfifo(folder / name),
            lambda: None,
            lambda: (folder / name).symlink_to(folder / name),
        ]
    )()


def mutate_json_file(folder: Path, rng: random.Random) -> None:
    """tokenizer.json and generation_config.json with hostile values and a fitting hash."""
    name = rng.choice(
        [n for n in ("tokenizer.json", "generation_config.json", "tokenizer_config.json") if (folder / n).exists()]
    )
    content = json.loads((folder / name).read_text())
    *parents, last = rng.choice(places(content))
    owner: Any = content
    for key in parents:
        owner = owner[key]
    owner[last] = rng.choice(VALUES)
    replace_file(folder / name, json.dumps(content).encode())
    rehash(folder, name)


def replace_file(path: Path, content: bytes) -> None:
    path.unlink()  # the copy is made of hard links
    path.write_bytes(content)


MUTATIONS = [
    mutate_value,
    mutate_sizes,
    mutate_spec,
    mutate_path,
    mutate_bytes,
    mutate_manifest_text,
    mutate_links,
    mutate_json_file,
]


def use(folder: Path) -> None:
    """What a user does with a bundle."""
    parse_answer(Bundle.open(folder).read("reference.npz"), Bundle.open(folder).spec)
    with edgeslm.load(folder, engine="native", threads=2) as model:
        model.logits([1, 2, 3])
        model.generate([1, 2, 3], max_new_tokens=3)
        model.generate("Hello there", max_new_tokens=3)


@pytest.mark.parametrize("batch", range(8))
def test_mutated_bundles_are_refused_or_run(tiny_bundle: Path, tmp_path: Path, batch: int) -> None:
    outcomes: Counter[tuple[str, int]] = Counter()
    for number in range(COUNT // 8):
        seed = batch * 1_000_000 + number
        rng = random.Random(seed)
        mutate = MUTATIONS[number % len(MUTATIONS)]
        folder = tmp_path / f"m{number}"
        shutil.copytree(tiny_bundle, folder, copy_function=os.link)
        manifest = folder / "edgeslm.json"
        replace_file(manifest, manifest.read_bytes())
        mutate(folder, rng)
        log = tmp_path / "log"
        status = in_child(partial(use, folder), log)
        detail = log.read_text() if log.exists() else f"exit status {status} (negative: a signal)"
        assert status in (RAN, REFUSED), f"{mutate.__name__}, seed {seed}: {detail}"
        outcomes[mutate.__name__, status] += 1
        shutil.rmtree(folder)
        shutil.rmtree(folder.with_name(folder.name + "-outside"), ignore_errors=True)
    refused = sum(n for (_, status), n in outcomes.items() if status == REFUSED)
    assert refused > COUNT // 8 // 2, f"the mutations do not bite: {outcomes}"


def test_the_untouched_bundle_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert in_child(partial(use, tiny_bundle), log) == RAN, log.read_text() if log.exists() else "signal"
