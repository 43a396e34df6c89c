"""A Hugging Face checkpoint folder, opened: its decoder, its weights, and the files that go with them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeslm.converters.checkpoint_weights import CheckpointWeights, Stored
from edgeslm.converters.config import Config
from edgeslm.converters.families import family_of
from edgeslm.converters.safetensors_file import StoredTensor
from edgeslm.converters.source_files import CONFIG, locate, locate_config, read_json, read_tensors
from edgeslm.errors import ArgumentError, CheckpointError, ModelFormatError, UnsupportedModelError
from edgeslm.spec import DecoderSpec

_DERIVED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")  # old checkpoints store what the config says already
GENERATION_CONFIG = "generation_config.json"
_LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. Its weights stay on disk until they are read."""

    folder: Path
    source: str  # what the user named: a folder's name, or a Hub id
    model_type: str
    config: dict[str, Any]
    generation_config: dict[str, Any]  # with the token ids of the config where it names none itself
    spec: DecoderSpec
    weights: CheckpointWeights
    weight_files: list[Path]
    licence: str  # as its model card names it; "" where it does not
    licence_files: list[Path]


def open_checkpoint(source: str | os.PathLike[str], context: int | None = None) -> Checkpoint:
    """Open a checkpoint folder, or download one by its Hub id.

    Args:
        source: folder with ``config.json`` and safetensors, or ``org/name``.
        context: tokens of context, at most the model's own, which is the default.

    Raises:
        CheckpointError: files are missing, damaged, or do not fit together.
        UnsupportedModelError: a sound checkpoint that cannot be represented exactly.
        ArgumentError: ``context`` is out of range.
    """
    folder = locate(os.fspath(source))
    config, spec, stored = _read_config(folder / CONFIG)
    tensors, weight_files = read_tensors(folder)
    tensors = {name: t for name, t in tensors.items() if not _DERIVED.search(name)}
    if spec.tied:
        _tie(stored, tensors)
    return Checkpoint(
        folder=folder,
        source=str(source) if not Path(source).exists() else folder.resolve().name,
        model_type=config.text("model_type"),
        config=config.values,
        generation_config=_generation_config(folder, config.values),
        spec=_in_context(spec, context),
        weights=CheckpointWeights(spec, stored, tensors, str(folder)),
        weight_files=weight_files,
        licence=_licence(folder),
        licence_files=sorted(p for pattern in _LICENCE_FILES for p in folder.glob(pattern) if p.is_file()),
    )


def read_spec(source: str | os.PathLike[str], context: int | None = None) -> DecoderSpec:
    """The decoder of a checkpoint from its config alone: of a folder, or of ``org/name`` on the Hub.

    Raises:
        CheckpointError, UnsupportedModelError, ArgumentError: as :func:`open_checkpoint`.
    """
    return _in_context(_read_config(locate_config(os.fspath(source)))[1], context)


def _read_config(path: Path) -> tuple[Config, DecoderSpec, dict[str, Stored]]:
    """A config, what it describes, and where the checkpoint keeps the weights of that."""
    config = Config(read_json(path), str(path))
    family = family_of(config)
    try:
        spec = family.read_spec(config)
        stored = dict(family.stored_weights(spec, config))
    except CheckpointError:
        raise  # it names the file already
    except ModelFormatError as error:
        raise CheckpointError(f"{path}: {error}") from None
    config.check_all_read()
    return config, spec, stored


def _in_context(spec: DecoderSpec, context: int | None) -> DecoderSpec:
    if context is None:
        return spec
    if type(context) is not int or not 1 <= context <= spec.context_length:
        raise ArgumentError(f"context: expected 1..{spec.context_length} tokens, the model's own, found {context!r}")
    return spec.with_context(context)


def _tie(stored: dict[str, Stored], tensors: dict[str, StoredTensor]) -> None:
    """Drop a stored output head that equals the embedding, or take it for a missing embedding."""
    embed, head = tensors.get(stored["embed"].tensor), tensors.get("lm_head.weight")
    if head is None:
        return
    if embed is None:
        stored["embed"] = Stored("lm_head.weight")
        return
    if (embed.dtype, embed.shape) != (head.dtype, head.shape) or not np.array_equal(embed.data, head.data):
        raise UnsupportedModelError(
            f"{head.path}: lm_head.weight differs from the embedding although config.json ties them "
            "(transformers 4 and 5 disagree about such checkpoints): set tie_word_embeddings to false if it "
            "is meant, else remove the tensor"
        )
    del tensors["lm_head.weight"]


def _generation_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """``generation_config.json``; token ids that it leaves out come from the config."""
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    from_config = {key: config[key] for key in keys if config.get(key) is not None}
    path = folder / GENERATION_CONFIG
    values = read_json(path) if path.exists() else {}
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(values).__name__}")
    return {**from_config, **{key: value for key, value in values.items() if value is not None or key not in keys}}


def _licence(folder: Path) -> str:
    """``license`` of the model card's front matter."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 16)
    except OSError:
        return ""
    front = re.match(r"---\s*\n(.*?\n)---\s*\n", head, re.DOTALL)
    line = re.search(r"^licen[sc]e:[ \t]*(\S[^\n]{0,80})", front[1], re.MULTILINE) if front else None
    return line[1].strip().strip("\"'") if line else ""
