"""LiteRT files from strangers: seeded mutations, each opened and run in a child process.

LiteRT trusts its files and crashes on bad ones. A child may run normally or raise an error of ours; a signal, any
other exception, or more than a few seconds of processor time is a failure. The manifest's hashes are made to fit.
Environment: EDGESLM_MUTATIONS sets how many (400 by default), EDGESLM_MUTATION_SEED where the seeds start.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import pickle
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import CPU_SECONDS, in_child
from children import RAN as FINISHED
from tiny_decoders import make_spec, make_weights, write_bundle

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.engines.litert import LitertEngine
from edgeslm.errors import EdgeslmError
from edgeslm.spec import DecoderSpec

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

COUNT = int(os.environ.get("EDGESLM_MUTATIONS", "400"))
FIRST_SEED = int(os.environ.get("EDGESLM_MUTATION_SEED", "0"))
RAN, REFUSED = "ran", "refused"
PER_CHILD = 20
MEMORY = 16 << 30  # of address space: the libraries alone take some
NUMBERS = [0, 1, 2, 3, 4, 8, 15, 16, 64, 255, 2**15, 2**16 - 1, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1]


def make_specs() -> dict[str, tuple[DecoderSpec, Options]]:
    """Between them: all kinds of cache, weight and operator; as small as can be."""
    window = {"window": 8, "qk_norm": "head", "softcap": 20.0}
    small = {"layers": 1, "context": 16}
    return {
        "window": (make_spec(attention=window, act="gelu_tanh", **small), Options("none")),
        "int8": (make_spec(attention={"rope": -1}, **small), Options("int8")),
        "int4": (
            make_spec(attention={"qkv_bias": True}, tied=False, logit_softcap=30.0, norm_out=True, **small),
            Options("int4", group_size=32),
        ),
    }


# Mutations of the file's bytes; ``graph`` is the length of the flatbuffer, behind which the weights lie.


def flip_bytes(raw: bytearray, graph: int, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        raw[rng.randrange(graph)] = rng.randrange(256)


def flip_bits(raw: bytearray, graph: int, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 3])):
        raw[rng.randrange(graph)] ^= 1 << rng.randrange(8)


def set_numbers(raw: bytearray, graph: int, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2])):
        struct.pack_into("<I", raw, rng.randrange(graph // 4 - 1) * 4, rng.choice(NUMBERS))


def add_to_numbers(raw: bytearray, graph: int, rng: random.Random) -> None:
    at = rng.randrange(graph // 4 - 1) * 4
    (old,) = struct.unpack_from("<I", raw, at)
    struct.pack_into("<I", raw, at, (old + rng.choice([-64, -4, -2, -1, 1, 2, 4, 16, 64])) % 2**32)


def set_shorts(raw: bytearray, graph: int, rng: random.Random) -> None:
    """Layouts of tables are of 16-bit numbers."""
    struct.pack_into("<H", raw, rng.randrange(graph // 2 - 1) * 2, rng.choice(NUMBERS) % 2**16)


def swap(raw: bytearray, graph: int, rng: random.Random) -> None:
    a, b = (rng.randrange(graph // 4 - 1) * 4 for _ in range(2))
    raw[a : a + 4], raw[b : b + 4] = raw[b : b + 4], raw[a : a + 4]


def copy_part(raw: bytearray, graph: int, rng: random.Random) -> None:
    size = rng.choice([4, 16, 64, 256])
    a, b = (rng.randrange((graph - size) // 4) * 4 for _ in range(2))
    raw[a : a + size] = raw[b : b + size]


def cut(raw: bytearray, graph: int, rng: random.Random) -> None:
    if rng.random() < 0.2:
        raw += bytes(rng.randrange(1, 5000))
    else:
        del raw[rng.choice([rng.randrange(len(raw)), rng.randrange(graph), rng.randrange(64)]) :]


def change_weights(raw: bytearray, graph: int, rng: random.Random) -> None:
    for _ in range(64):
        raw[rng.randrange(graph, len(raw))] = rng.choice([0, 127, 128, 255])


def change_constants(raw: bytearray, graph: int, rng: random.Random) -> None:
    """Numbers that operators read as places and sizes: any run of small ones may be one."""
    words = struct.unpack_from(f"<{graph // 4}I", raw)
    pairs = enumerate(itertools.pairwise(words))
    small = [i for i, (size, first) in pairs if 0 < size <= 32 and size % 4 == 0 and first < 200]
    at = rng.choice(small) * 4 + 4
    struct.pack_into("<I", raw, at, rng.choice(NUMBERS))


BYTES = [
    flip_bytes,
    flip_bits,
    set_numbers,
    add_to_numbers,
    set_shorts,
    swap,
    copy_part,
    cut,
    change_weights,
    change_constants,
]


# Mutations of what the file says, written anew: a flatbuffer without fault, with a graph that is not ours.


def mutate_objects(raw: bytearray, graph: int, rng: random.Random) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = pickle.loads(unpacked(bytes(raw)))
    for _ in range(rng.choice([1, 1, 2])):
        mutate_object(model, schema, rng)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    packed = bytes(builder.Output())
    first = min(b.offset for b in model.buffers if b.offset and b.offset > 1)
    if len(packed) <= first:
        raw[: len(packed)] = packed
    else:
        raw[:] = packed


@functools.cache
def unpacked(raw: bytes) -> bytes:
    """The file as the schema's objects; unpickling is the fastest way to copy them."""
    from ai_edge_litert import schema_py_generated as schema

    return pickle.dumps(schema.ModelT.InitFromPackedBuf(raw, 0))


def mutate_object(model: Any, schema: Any, rng: random.Random) -> None:
    subgraph = rng.choice(model.subgraphs)
    tensor, operator = rng.choice(subgraph.tensors), rng.choice(subgraph.operators)
    other = rng.choice(subgraph.operators)
    number = rng.choice([0, 1, 2, 3, 5, 7, 8, 16, 63, 64, 65, 127, 2**20, 2**31 - 1, -1])

    def resize() -> None:
        tensor.shape = list(tensor.shape)
        if tensor.shape:
            tensor.shape[rng.randrange(len(tensor.shape))] = number

    def rewire() -> None:
        operator.inputs = list(operator.inputs)
        operator.inputs[rng.randrange(len(operator.inputs))] = rng.randrange(-1, len(subgraph.tensors))

    def requantize() -> None:
        weights = [t for t in subgraph.tensors if t.quantization is not None]
        if weights:
            q = rng.choice(weights).quantization
            if q.details is not None:
                setattr(q.details, rng.choice(["scales", "blockSize", "zeroPoints"]), number % 2**31)
            else:
                q.scale = q.scale[: max(0, number) % (len(q.scale) + 1)]

    def reoption() -> None:
        options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
        fields = [k for k, v in options.items() if isinstance(v, int | bool)]
        if fields:
            field = rng.choice(fields)
            setattr(operator.builtinOptions, field, not options[field] if options[field] in (0, 1) else number % 128)

    def rebuffer() -> None:
        buffer = rng.choice(model.buffers)
        if buffer.offset:
            setattr(buffer, rng.choice(["offset", "size"]), rng.choice([number % 2**31 * 16, 2**40, 2**63 + 16]))
        elif buffer.data is not None:
            import numpy as np

            buffer.data = np.frombuffer(rng.randbytes(max(0, number) % 64), np.uint8)

    rng.choice(
        [
            resize,
            resize,
            rewire,
            rewire,
            requantize,
            reoption,
            reoption,
            rebuffer,
            lambda: setattr(tensor, "type", rng.choice([0, 1, 2, 4, 5, 6, 9, 10, 17, 19, 20])),
            lambda: setattr(tensor, "buffer", rng.randrange(len(model.buffers))),
            lambda: setattr(tensor, "shape", list(rng.choice(subgraph.tensors).shape)),
            lambda: setattr(tensor, "isVariable", True),
            lambda: setattr(operator, "opcodeIndex", rng.randrange(len(model.operatorCodes))),
            lambda: setattr(operator, "outputs", [rng.randrange(len(subgraph.tensors))]),
            lambda: setattr(operator, "inputs", list(operator.inputs)[:-1]),
            lambda: setattr(operator, "inputs", list(other.inputs)),
            lambda: setattr(operator, "builtinOptions", None),
            lambda: setattr(rng.choice(model.operatorCodes), "builtinCode", rng.randrange(210)),
            lambda: setattr(rng.choice(model.operatorCodes), "version", number),
            lambda: subgraph.operators.remove(operator),
            lambda: subgraph.operators.reverse(),
            lambda: setattr(rng.choice(model.signatureDefs), "subgraphIndex", rng.randrange(4)),
            lambda: setattr(rng.choice(rng.choice(model.signatureDefs).inputs), "tensorIndex", rng.randrange(64)),
            lambda: setattr(rng.choice(rng.choice(model.signatureDefs).outputs), "name", "logits"),
            lambda: setattr(subgraph, "outputs", list(subgraph.outputs)[:-1]),
        ]
    )()


def graph_bytes(raw: bytes) -> int:
    """Length of the flatbuffer: what lies before the first of the buffers behind it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(raw, 0)
    offsets = [model.Buffers(i).Offset() for i in range(model.BuffersLength())]
    return int(min(offset for offset in offsets if offset > 1))


def mutated(raw: bytes, graph: int, seed: int) -> tuple[str, bytes]:
    rng = random.Random(seed)
    mutate: Callable[[bytearray, int, random.Random], None] = rng.choice([*BYTES, mutate_objects])
    changed = bytearray(raw)
    mutate(changed, graph, rng)
    return mutate.__name__, bytes(changed)


def use(bundle: Bundle) -> None:
    """A prompt in several runs, and some tokens more."""
    engine = LitertEngine.open(Bundle.open(bundle.folder), 1)
    try:
        session = engine.new_session()
        session.forward([*range(1, 13)])
        session.forward([5])
        session.truncate(12)
        session.forward([6])
    finally:
        engine.close()


def replace_model(bundle: Bundle, raw: bytes) -> None:
    """New content for the bundle's ``.tflite`` file, and a manifest that agrees."""
    name = bundle.target("litert").files["model"]
    manifest = json.loads((bundle.folder / "edgeslm.json").read_text())
    manifest["files"][name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (bundle.folder / name).write_bytes(raw)
    (bundle.folder / "edgeslm.json").write_text(json.dumps(manifest))


def work_off(bundle: Bundle, original: bytes, graph: int, seeds: range, report: Path) -> None:
    """Mutate and use; ``report`` gets a line before each and its outcome behind it."""
    with report.open("w", buffering=1) as lines:
        for seed in seeds:
            kind, raw = mutated(original, graph, seed)
            lines.write(f"{kind}, seed {seed}: ")
            replace_model(bundle, raw)
            try:
                use(bundle)
                lines.write(f"{RAN}\n")
            except EdgeslmError:
                lines.write(f"{REFUSED}\n")


@pytest.mark.parametrize("name", make_specs())
def test_mutated_files_are_refused_or_run(tmp_path: Path, name: str) -> None:
    """Children take 20 at a time."""
    spec, options = make_specs()[name]
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), options, "litert")
    original = bundle.file("litert", "model").read_bytes()
    graph, count, first = graph_bytes(original), -(-COUNT // len(make_specs())), FIRST_SEED
    log, report, outcomes = tmp_path / "log", tmp_path / "report", Counter[str]()
    for start in range(first, first + count, PER_CHILD):
        seeds = range(start, min(start + PER_CHILD, first + count))
        use_all = functools.partial(work_off, bundle, original, graph, seeds, report)
        status = in_child(use_all, log, MEMORY, CPU_SECONDS * PER_CHILD // 4)
        lines = report.read_text()
        assert status == FINISHED, f"{lines.splitlines()[-1]} {log.read_text() if log.exists() else status}"
        outcomes.update(line.rpartition(": ")[2] for line in lines.splitlines())
    assert outcomes[RAN] > count // 20 and outcomes[REFUSED] > count // 2, f"the mutations do not bite: {outcomes}"


@pytest.mark.parametrize("name", make_specs())
def test_the_untouched_files_run(tmp_path: Path, name: str) -> None:
    spec, options = make_specs()[name]
    bundle, log = write_bundle(tmp_path / "b", spec, make_weights(spec), options, "litert"), tmp_path / "log"
    assert in_child(lambda: use(bundle), log, MEMORY) == FINISHED, log.read_text() if log.exists() else "a signal"
