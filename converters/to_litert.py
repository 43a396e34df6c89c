"""The LiteRT target: a ``.tflite`` file of several signatures, and the ``.litertlm`` bundle of LiteRT-LM around it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeslm.converters.data_file import each_block, write_at
from edgeslm.converters.graph_constants import graph_constants
from edgeslm.converters.litert_builder import LitertBuilder
from edgeslm.converters.litert_weights import DTYPES, Storage, encode, exceptions, part_names, storages
from edgeslm.converters.litertlm import chat_template, import_builder, llm_metadata, start_token, write_litertlm
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import Staging
from edgeslm.converters.tflite_graph import SCALES, Model, import_schema
from edgeslm.decoder import build
from edgeslm.errors import ArgumentError, CheckpointError
from edgeslm.formats.base import F32Array
from edgeslm.generation.options import read_defaults
from edgeslm.manifest import TargetEntry
from edgeslm.spec import DecoderSpec, tensor_shapes
from edgeslm.tokenizer import TOKENIZER_JSON, Tokenizer
from edgeslm.weights import WeightSource

if TYPE_CHECKING:
    from edgeslm.converters.checkpoint import Checkpoint

SUFFIXES = {"model": ".tflite", "litertlm": ".litertlm"}
PREFILL_SIZES = (8, 32, 128, 512)  # tokens per call

Progress = Callable[[int, int], None]


def check_options(spec: DecoderSpec, options: Options) -> None:
    """Refuse what the target cannot do.

    Raises:
        ArgumentError: float16, which LiteRT would unpack to float32 for every signature.
        UnsupportedModelError: weights that have no form at this level.
        MissingExtraError: a package that writes the files is not installed.
    """
    if options.quantize not in DTYPES:
        raise ArgumentError(
            f"--to litert --quantize {options.quantize}: expected one of {', '.join(DTYPES)} (LiteRT computes float16 "
            "weights from float32 copies of them)"
        )
    storages(spec, options)
    import_schema()
    import_builder()


def write_target(
    checkpoint: Checkpoint, options: Options, staging: Staging, progress: Callable[[str, int, int], None]
) -> TargetEntry:
    """Write the target's files into the staging folder.

    Raises:
        ArgumentError, UnsupportedModelError, MissingExtraError: see :func:`check_options`.
        CheckpointError: a weight cannot be read.
    """
    spec = checkpoint.spec
    check_options(spec, options)
    stem = staging.free_name("model", tuple(SUFFIXES.values()))
    files = {"model": stem + SUFFIXES["model"]}
    write_tflite(staging.path(files["model"]), spec, options, checkpoint.weights, partial(progress, "litert"))
    staging.add(files["model"])
    values = settings(spec, options)
    if (checkpoint.folder / TOKENIZER_JSON).is_file():
        files["litertlm"] = stem + SUFFIXES["litertlm"]
        _write_bundle(staging.path(files["litertlm"]), staging.path(files["model"]), checkpoint)
        staging.add(files["litertlm"])
    else:
        values["notes"] = ["no .litertlm file: LiteRT-LM needs a tokenizer, and the checkpoint has no tokenizer.json"]
    return TargetEntry(files, values)


def _write_bundle(path: Path, tflite: Path, checkpoint: Checkpoint) -> None:
    spec, folder = checkpoint.spec, checkpoint.folder
    generation, end = json.dumps(checkpoint.generation_config).encode(), Tokenizer.from_folder(folder).eos_id
    options = read_defaults(generation, end, spec.vocab_size).options()
    start = start_token(folder / TOKENIZER_JSON)
    metadata = llm_metadata(spec.context_length, options, start, chat_template(folder))
    write_litertlm(path, tflite, folder / TOKENIZER_JSON, metadata)


def settings(spec: DecoderSpec, options: Options) -> dict[str, Any]:
    """As the manifest records them."""
    chosen = storages(spec, options)
    quantized = {s.dtype for s in chosen.values()} - {"float32"}
    other, parts = exceptions(chosen, options), {n: s.parts for n, s in chosen.items() if s.parts > 1}
    return {
        "quantize": options.quantize,
        "group_size": options.group_size if "int4" in quantized else 0,  # int8: one scale for each row
        "embed": options.embed or options.quantize,
        "prefill": list(prefill_sizes(spec.context_length)),
        **({"other_group_sizes": other} if other else {}),
        **({"parts": parts} if parts else {}),
    }


def prefill_sizes(context_length: int) -> tuple[int, ...]:
    """Tokens per call of the ``prefill_N`` signatures; none more than half of the context."""
    return tuple(n for n in PREFILL_SIZES if 2 * n <= context_length) or (max(1, context_length // 2),)


def write_tflite(path: Path, spec: DecoderSpec, options: Options, source: WeightSource, progress: Progress) -> None:
    """A new ``.tflite`` file at ``path``; ``source`` is read from worker threads."""
    chosen = storages(spec, options)
    for name, shape in tensor_shapes(spec).items():
        if source.shape(name) != shape:
            raise CheckpointError(f"{name}: expected shape {shape}, found {source.shape(name)}")
    model = build_model(spec, chosen)
    offsets, size = model.layout()
    with path.open("xb", buffering=0) as file:
        os.ftruncate(file.fileno(), size)  # gaps read as zeros
        writer, done = _Writer(file.fileno(), chosen, offsets, source), 0
        for name, values in graph_constants(spec).items():
            if name in offsets:  # a rope that some layer uses
                write_at(file.fileno(), values, offsets[name])
        for written in each_block(tensor_shapes(spec), writer.write_rows):
            done += written
            progress(done, size)
        write_at(file.fileno(), np.frombuffer(model.serialize(writer.row_scales, offsets), np.uint8), 0)
    progress(size, size)


class _Writer:
    """Writes rows of weights to their places; the scales of rows, which lie in the flatbuffer, are kept."""

    def __init__(self, fd: int, chosen: dict[str, Storage], offsets: dict[str, int], source: WeightSource) -> None:
        self._fd, self._chosen, self._offsets, self._source = fd, chosen, offsets, source
        self.row_scales = {
            part: np.empty(source.shape(name)[0], np.float32)
            for name, storage in chosen.items()
            if storage.dtype != "float32" and not storage.block
            for part in part_names(name, storage.parts)
        }

    def write_rows(self, name: str, start: int, stop: int) -> int:
        """Rows of one weight; returns their bytes."""
        storage, rows = self._chosen[name], self._source.rows(name, start, stop)
        parts = zip(part_names(name, storage.parts), np.split(rows, storage.parts, axis=-1), strict=True)
        return sum(self._write_part(part, np.ascontiguousarray(columns), storage, start) for part, columns in parts)

    def _write_part(self, part: str, rows: F32Array, storage: Storage, start: int) -> int:
        data, scales = encode(rows, storage)
        write_at(self._fd, data, self._offsets[part] + start * (data.nbytes // len(rows)))
        if storage.block:
            write_at(self._fd, scales.astype(np.float16), self._offsets[part + SCALES] + 2 * start * scales.shape[1])
        elif storage.dtype != "float32":
            self.row_scales[part][start : start + len(rows)] = scales
        return data.nbytes


def build_model(spec: DecoderSpec, chosen: dict[str, Storage]) -> Model:
    """The graphs of all signatures."""
    model = Model()
    signatures = {f"prefill_{n}": n for n in prefill_sizes(spec.context_length)} | {"decode": 1}
    for name, tokens in signatures.items():
        graph = model.graph(name)
        build(spec, LitertBuilder(spec, chosen, graph, tokens, with_logits=name == "decode"))
        graph.prune()
    return model
