"""Core ML packages from strangers: seeded mutations of a converted one, run in child processes.

Messages are changed field by field as well as byte by byte; weight headers, the manifest and links too. Each may
run normally or raise an error of ours, within its memory and processor time. EDGESLM_MUTATIONS sets how many.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from children import CPU_SECONDS, RAN, REFUSED, in_child
from tiny_decoders import make_spec, make_weights, write_bundle

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.engines.coreml import CoreMlEngine
from edgeslm.engines.coreml_interpreter.proto import model_class
from edgeslm.errors import EdgeslmError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

COUNT = int(os.environ.get("EDGESLM_MUTATIONS", "400"))
BATCHES, PER_CHILD = 8, 25
MEMORY = 256 << 20  # address space of a child beyond its parent's; the model itself takes less than one megabyte
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 64, 2**15, 2**20, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]
FLOATS = [0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan")]
TEXTS = [
    "",
    "x",
    "\0",
    "@model_path/../../../../etc/passwd",
    "/etc/passwd",
    "@model_path/weights",
    "while_loop",
    "a" * 9999,
]
PATHS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "",
    ".",
    "con",
    "x\0y",
    "a\\b",
    "com.apple.CoreML",
    "x/" * 400,
]


def messages(message: Any) -> list[Any]:
    """A message and every one inside it."""
    found = [message]
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = (
                list(value.values()) if field.message_type.fields_by_name["value"].type == field.TYPE_MESSAGE else []
            )
        else:
            inner = list(value) if field.is_repeated else [value]
        for item in inner:
            found += messages(item)
    return found


def change_field(message: Any, rng: random.Random) -> None:
    """Another value for one field of a message, or one more, one less, or two in another order."""
    fields = (
        message.ListFields()
        if rng.random() < 0.85
        else [(f, getattr(message, f.name)) for f in message.DESCRIPTOR.fields]
    )
    if not fields:
        return
    field, value = rng.choice(fields)
    try:
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            change_map(value, rng)
        elif field.is_repeated:
            change_list(value, field, rng)
        elif field.type == field.TYPE_MESSAGE:
            message.ClearField(field.name) if rng.random() < 0.5 else value.SetInParent()
        else:
            setattr(message, field.name, scalar(field, value, rng))
    except (ValueError, TypeError, IndexError, KeyError):  # protobuf takes no such value here
        pass


def scalar(field: Any, value: Any, rng: random.Random) -> Any:
    if field.type in (field.TYPE_STRING,):
        return rng.choice([*TEXTS, value[::-1], value + "_0"])
    if field.type == field.TYPE_BYTES:
        return rng.choice([b"", value[:-1], value + value, bytes(rng.randrange(256) for _ in value)])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == field.TYPE_BOOL:
        return not value
    return rng.choice([*NUMBERS, value + 1, value - 1, value * 2])


def change_list(values: Any, field: Any, rng: random.Random) -> None:
    action = rng.randrange(4)
    if action == 0:
        del values[rng.randrange(len(values))]
    elif action == 1:
        copies = [values[rng.randrange(len(values))]] * rng.choice([1, 1, 50])
        values.extend(copies)
    elif action == 2 and len(values) > 1:
        copied = list(values)
        rng.shuffle(copied)
        del values[:]
        values.extend(copied)
    elif field.type != field.TYPE_MESSAGE:
        at = rng.randrange(len(values))
        values[at] = scalar(field, values[at], rng)


def change_map(values: Any, rng: random.Random) -> None:
    one, other = rng.choice(sorted(values)), rng.choice(sorted(values))
    action = rng.randrange(3)
    if action == 0:
        del values[one]
    elif action == 1:
        values[one].CopyFrom(values[other])
    else:
        values[rng.choice([*TEXTS, one + "s"])].CopyFrom(values[one])


def read_model(folder: Path) -> tuple[Any, Any]:
    """The model, and the operations of its program."""
    model = model_class()()
    model.ParseFromString((folder / MODEL).read_bytes())
    (function,) = model.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return model, block.operations


def mutate_fields(folder: Path, rng: random.Random) -> None:
    model, operations = read_model(folder)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if rng.random() < 0.8:
            part = rng.choice(messages(rng.choice(operations)))
        else:
            function = next(iter(model.mlProgram.functions.values()))
            outer = [model, model.mlProgram, function, *messages(model.description)]
            part = rng.choice([*outer, *(m for item in function.inputs for m in messages(item))])
        change_field(part, rng)
        if not len(operations):
            break
    replace(folder / MODEL, model.SerializeToString())


def mutate_arguments(folder: Path, rng: random.Random) -> None:
    """Operations that name other values, have other types, or come in another order."""
    model, operations = read_model(folder)
    names = [o.name for operation in operations for o in operation.outputs]
    operation = rng.choice(operations)
    action = rng.randrange(5)
    if action == 0 and operation.inputs:
        argument = operation.inputs[rng.choice(sorted(operation.inputs))].arguments[0]
        argument.name = rng.choice(names)
    elif action == 1:
        operation.type = rng.choice([o.type for o in operations])
    elif action == 2:
        change_dimension(rng.choice([o for o in operations if o.outputs]).outputs[0].type.tensorType, rng)
    elif action == 3:
        constant = rng.choice([o for o in operations if o.type == "const"]).attributes["val"]
        change_field(rng.choice(messages(constant)), rng)
    else:
        operations.add().CopyFrom(operation)
    replace(folder / MODEL, model.SerializeToString())


def change_dimension(tensor: Any, rng: random.Random) -> None:
    if not tensor.dimensions:
        tensor.rank = rng.choice(NUMBERS[:8])
        return
    dimension = rng.choice(tensor.dimensions)
    if rng.random() < 0.5:
        dimension.unknown.variadic = rng.random() < 0.2
    else:
        dimension.constant.size = rng.choice([n for n in NUMBERS if n >= 0])


def mutate_numbers(folder: Path, rng: random.Random) -> None:
    """Constants that shapes, slices and indices are made of."""
    model, operations = read_model(folder)
    constants = [o.attributes["val"].immediateValue.tensor.ints for o in operations if o.type == "const"]
    lists = [c for c in constants if len(c.values)]
    for _ in range(rng.choice([1, 1, 3])):
        chosen = rng.choice(lists)
        number = rng.choice([n for n in NUMBERS if -(2**31) <= n < 2**31])
        chosen.values[rng.randrange(len(chosen.values))] = number
    replace(folder / MODEL, model.SerializeToString())


def mutate_bytes(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice([MODEL, MODEL, WEIGHTS, "Manifest.json"])
    raw = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 4, 64])):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    cut = rng.random()
    raw = raw[: rng.randrange(len(raw) + 1)] if cut < 0.2 else raw + bytes(rng.randrange(1, 5000)) if cut < 0.3 else raw
    replace(path, bytes(raw))


def mutate_weights(folder: Path, rng: random.Random) -> None:
    """Lying headers of blobs."""
    raw = bytearray((folder / WEIGHTS).read_bytes())
    starts = [at for at in range(0, len(raw), 64) if raw[at : at + 4] == b"\xef\xbe\xad\xde"]
    at, (place, kind) = rng.choice(starts), rng.choice([(0, "<I"), (4, "<I"), (8, "<Q"), (16, "<Q"), (24, "<Q")])
    (old,) = struct.unpack_from(kind, raw, at + place)
    new = rng.choice([*NUMBERS, old + 64, old - 64, old + 1, old * 2])
    struct.pack_into(kind, raw, at + place, new % (1 << (32 if kind == "<I" else 64)))
    replace(folder / WEIGHTS, bytes(raw))


def mutate_manifest(folder: Path, rng: random.Random) -> None:
    path = folder / "Manifest.json"
    manifest = json.loads(path.read_text())
    root = manifest["rootModelIdentifier"]
    rng.choice(
        [
            lambda: manifest["itemInfoEntries"][root].update(path=rng.choice(PATHS)),
            lambda: manifest.update(rootModelIdentifier=rng.choice([None, 1, "", [], *manifest["itemInfoEntries"]])),
            lambda: manifest.update(itemInfoEntries=rng.choice([None, [], {}, "x", {root: []}, {root: {"path": 7}}])),
            lambda: manifest.pop(rng.choice(sorted(manifest))),
        ]
    )()
    replace(path, json.dumps(manifest).encode())


def mutate_links(folder: Path, rng: random.Random) -> None:
    name = rng.choice([MODEL, WEIGHTS, "Manifest.json", "Data", "Data/com.apple.CoreML/weights"])
    moved = folder.with_name(folder.name + "-outside")
    shutil.move(folder / name, moved)
    rng.choice(
        [
            lambda: (folder / name).symlink_to(moved),
            lambda: (folder / name).mkdir(),
            lambda: os.mkfifo(folder / name),
            lambda: None,
            lambda: (folder / name).symlink_to(folder / name),
        ]
    )()


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # the copy is made of hard links
    path.write_bytes(content)


MUTATIONS: list[Callable[[Path, random.Random], None]] = [
    *(mutate_fields, mutate_arguments, mutate_numbers, mutate_bytes),
    *(mutate_fields, mutate_arguments, mutate_numbers, mutate_bytes),
    *(mutate_weights, mutate_manifest, mutate_links),
]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """One with a layer that sees everything and one with a window; int4."""
    folder, found = tmp_path_factory.mktemp("coreml"), []
    for window in (0, 4):
        spec = make_spec(
            hidden=32, heads=2, kv_heads=1, inner=32, vocab=40, context=24, layers=1, attention={"window": window}
        )
        found.append(write_bundle(folder / str(window), spec, make_weights(spec), Options("int4"), "coreml"))
    return found


def use(bundle: Bundle) -> None:
    """What a user does with it: a prompt longer than the window, then a token."""
    session = CoreMlEngine.open(bundle).new_session()
    session.forward([1, 2, 3, 4, 5, 6, 7])
    session.forward([8])


def work_off(bundle: Bundle, seeds: range, folder: Path, report: Path) -> None:
    """Mutate and use; ``report`` gets a line before each case, and its outcome and processor time behind it."""
    with report.open("w", buffering=1) as lines:
        for seed in seeds:
            mutate = MUTATIONS[seed % len(MUTATIONS)]
            lines.write(f"{mutate.__name__}, seed {seed}: ")
            shutil.copytree(bundle.folder, folder, copy_function=os.link)
            mutate(folder / "model.mlpackage", random.Random(seed))
            started = time.process_time()
            try:
                use(Bundle(folder, bundle.manifest))
                outcome = RAN
            except EdgeslmError:
                outcome = REFUSED
            lines.write(f"{outcome} {time.process_time() - started}\n")
            folder.rename(folder.with_name(f"{folder.name}-{seed}"))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutated_packages_are_refused_or_run(bundles: list[Bundle], tmp_path: Path, batch: int) -> None:
    """Children take 25 at a time."""
    log, report, outcomes = tmp_path / "log", tmp_path / "report", Counter[str]()
    first, count = batch * 1_000_000, COUNT // BATCHES
    for start in range(first, first + count, PER_CHILD):
        seeds = range(start, min(start + PER_CHILD, first + count))
        work = partial(work_off, bundles[batch % 2], seeds, tmp_path / f"m{start}", report)
        status = in_child(work, log, MEMORY, CPU_SECONDS * PER_CHILD // 2)
        lines = report.read_text().splitlines()
        detail = log.read_text() if log.exists() else f"exit status {status} (negative: a signal)"
        assert status == RAN, f"{lines[-1]} {detail}"
        for line in lines:
            outcome, seconds = line.rpartition(": ")[2].split()
            assert float(seconds) < CPU_SECONDS, line
            outcomes[outcome] += 1
    refused = outcomes[str(REFUSED)]
    assert count // 2 < refused < count * 0.98, f"the mutations do not bite, or nothing runs: {outcomes}"


def test_the_untouched_packages_run(bundles: list[Bundle], tmp_path: Path) -> None:
    log = tmp_path / "log"
    for bundle in bundles:
        assert in_child(partial(use, bundle), log, MEMORY) == RAN, log.read_text() if log.exists() else "signal"
