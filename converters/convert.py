"""The conversion: a checkpoint goes in, a verified bundle comes out.

load → the original's answer → targets → verify, all in a staging folder → commit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeslm._version import __version__
from edgeslm.bundle import Bundle
from edgeslm.converters import reference_answer, to_coreml, to_litert, to_onnx
from edgeslm.converters.card import model_card
from edgeslm.converters.checkpoint import GENERATION_CONFIG, Checkpoint, open_checkpoint
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import Staging, stage
from edgeslm.converters.verify import Report, target_json, verify
from edgeslm.errors import ArgumentError, BundleError
from edgeslm.log import logger
from edgeslm.manifest import NAME, Manifest, TargetEntry
from edgeslm.spec import DecoderSpec
from edgeslm.tokenizer import Tokenizer

log = logger("convert")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Target:
    """A form that a model is converted to: ``converters/to_<name>.py``."""

    write: Callable[[Checkpoint, Options, Staging, Progress], TargetEntry]
    check: Callable[[DecoderSpec, Options], None] = lambda spec, options: None  # refuses what it cannot do


# Adding a target: its row here.
TARGETS = {
    "onnx": Target(to_onnx.write_target),
    "litert": Target(to_litert.write_target, to_litert.check_options),
    "coreml": Target(to_coreml.write_target, to_coreml.check_options),
}

DEFAULT_CONTEXT = 4096  # tokens; larger contexts are asked for, because caches and rope tables grow with them
CARRIED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "translation.json",
)
SAMPLE_BYTES, SAMPLE_STRIDE = 64 << 10, 4 << 20
# Some engines copy all weights when they open a model: above this size of the bundle only the preferred engine of each
# target checks it during conversion, so that time and memory stay bounded. `edgeslm verify` asks every engine.
MAX_COPIED_BYTES = 256 << 20


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion made."""

    folder: Path
    manifest: Manifest
    verification: Report | None  # None: not asked for


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: Sequence[str] = ("onnx",),
    options: Options | None = None,
    context: int | None = None,
    check: bool = True,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ConversionReport:
    """Convert a checkpoint folder (or Hub id) into a bundle, or add or replace targets of a bundle made from it.

    Args:
        source: a Hugging Face checkpoint folder, or ``org/name`` on the Hub.
        out: the bundle's folder: absent, empty, or a bundle of the same model.
        to: targets to write.
        options: quantisation; int8 by default.
        context: tokens of context; the model's own, at most 4096, by default.
        check: verify the new targets before they replace anything, and record what was measured.
        threads: for the engines that verify.
        progress: called with what is running, units done and units in all.

    Raises:
        ArgumentError: an unknown target or an impossible option, before any work.
        CheckpointError, UnsupportedModelError: the checkpoint cannot be converted.
        BundleError: ``out`` holds something else.
    """
    options, to = options or Options(), tuple(dict.fromkeys(to))
    _check_targets(to)
    folder = Path(out)
    old = _existing(folder)
    checkpoint = open_checkpoint(source, context)
    if context is None and checkpoint.spec.context_length > DEFAULT_CONTEXT:
        checkpoint = replace(checkpoint, spec=checkpoint.spec.with_context(DEFAULT_CONTEXT))
    for name in to:
        TARGETS[name].check(checkpoint.spec, options)
    fingerprint = _fingerprint(checkpoint)
    _check_same_model(folder, old, fingerprint, checkpoint.spec)

    with stage(folder, old) as staging:
        _stage_source_files(checkpoint, staging)
        if old is not None and reference_answer.NAME in old.files:
            staging.keep(reference_answer.NAME)
        else:
            _stage_answer(checkpoint, staging, progress)
        targets = dict(old.targets) if old else {}
        for name in set(targets) - set(to):
            for path in targets[name].files.values():
                staging.keep(path)
        for name in to:
            targets[name] = TARGETS[name].write(checkpoint, options, staging, progress)
        manifest = Manifest(checkpoint.spec, staging.files, targets, _provenance(checkpoint, fingerprint))
        report = _verify_staged(staging, manifest, to, threads, progress) if check else None
        if report is not None:
            measured = {n: replace(targets[n], verification=target_json(m)) for n, m in report.targets.items()}
            manifest = replace(manifest, targets={**targets, **measured})
        staging.write("README.md", model_card(checkpoint, manifest).encode())
        staging.commit(manifest)
    return ConversionReport(folder, manifest, report)


def _check_targets(to: Sequence[str]) -> None:
    unknown = [t for t in to if t not in TARGETS]
    if unknown or not to:
        raise ArgumentError(f"--to: expected targets among {', '.join(TARGETS)}; found {', '.join(unknown) or 'none'}")


def _existing(folder: Path) -> Manifest | None:
    """The manifest of the bundle that is there; what is kept of it must be sound."""
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder}: is a file; expected a folder for the bundle")
    if not (folder / NAME).exists():
        return None
    try:
        return Bundle.open(folder).manifest
    except BundleError as error:
        raise BundleError(f"{folder}: holds a damaged bundle; remove it or choose an empty folder ({error})") from None


def _fingerprint(checkpoint: Checkpoint) -> str:
    """What makes two conversions one model: a hash over the config, and over sizes and samples of the weight files.

    Samples, because hashing gigabytes would take longer than quantising them; training moves every weight.
    """
    digest = hashlib.sha256((checkpoint.folder / "config.json").read_bytes())
    for path in checkpoint.weight_files:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            for offset in range(0, size, SAMPLE_STRIDE):
                file.seek(offset)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _check_same_model(folder: Path, old: Manifest | None, fingerprint: str, spec: DecoderSpec) -> None:
    """A bundle holds one model in one context: its tokenizer and the original's answer serve all targets."""
    if old is None:
        return
    if old.provenance.get("weights_fingerprint") != fingerprint:
        raise BundleError(f"{folder}: is a bundle of another model; choose an empty folder, or remove it first")
    if old.spec != spec:
        raise BundleError(
            f"{folder}: is a bundle with a context of {old.spec.context_length} tokens, not {spec.context_length}: "
            f"give --context {old.spec.context_length}, or choose an empty folder"
        )


def _stage_source_files(checkpoint: Checkpoint, staging: Staging) -> None:
    """Tokenizer, translation card and licence texts byte for byte, and the generation config."""
    names = [n for n in CARRIED_FILES if (checkpoint.folder / n).is_file()]
    names += [p.name for p in checkpoint.licence_files]
    for name in names:
        staging.write(name, (checkpoint.folder / name).read_bytes())
    staging.write(GENERATION_CONFIG, (json.dumps(checkpoint.generation_config, indent=1) + "\n").encode())
    if "tokenizer.json" not in names:
        log.warning("%s has no tokenizer.json: the bundle will take token ids only", checkpoint.folder)


def _stage_answer(checkpoint: Checkpoint, staging: Staging, progress: Progress) -> None:
    path = checkpoint.folder / "tokenizer.json"
    encode = Tokenizer.from_folder(checkpoint.folder, checkpoint.spec.vocab_size).encode if path.is_file() else None
    ids = reference_answer.reference_ids(checkpoint.spec, encode)
    answer = reference_answer.compute_answer(
        checkpoint.spec, checkpoint.weights, ids, lambda done, total: progress("original", done, total)
    )
    staging.write(reference_answer.NAME, answer.dumps())


def _verify_staged(
    staging: Staging, manifest: Manifest, to: Sequence[str], threads: int | None, progress: Progress
) -> Report:
    fresh = replace(manifest, targets={n: t for n, t in manifest.targets.items() if n in to})
    staging.write_manifest(fresh)
    bundle = Bundle(staging.folder, fresh)  # just written and hashed by us
    small = sum(entry.bytes for entry in fresh.files.values()) <= MAX_COPIED_BYTES
    return verify(
        bundle,
        best_only=not small,
        threads=threads,
        progress=lambda what, d, t: progress(f"verify {what}", d, t),
    )


def _provenance(checkpoint: Checkpoint, fingerprint: str) -> dict[str, Any]:
    return {
        "source": checkpoint.source,
        "weights_fingerprint": fingerprint,
        "model_type": checkpoint.model_type,
        "licence": checkpoint.licence,
        "edgeslm_version": __version__,
    }
