"""Hold every target of a bundle against the original model.

The original's answer (``reference.npz``) comes from the float32 oracle on the checkpoint; a target is run
teacher-forced over the same tokens. Measured per row, over the original's 64 most likely tokens and "any other":

    max_abs_error    largest |logit - original's|; max_relative_error is that over the largest |logit|
    kl               mean Kullback-Leibler divergence in nats, KL(original || target)
    top1_agreement   share of rows with the same most likely token

The tokens go in by pieces, and the last 32 one at a time, as generation gives them; where the original's answer goes
beyond the model's windows, so do these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgeslm.bundle import Bundle
from edgeslm.converters.reference_answer import (
    NAME,
    ReferenceAnswer,
    compute_answer,
    log_sum_exp,
    parse_answer,
    reference_ids,
)
from edgeslm.engines.protocol import Engine
from edgeslm.engines.registry import ENGINES, engines_for, open_engine
from edgeslm.errors import ArgumentError, BundleError
from edgeslm.log import logger
from edgeslm.manifest import TargetEntry
from edgeslm.tflite.container import check_litertlm
from edgeslm.tokenizer import TOKENIZER_JSON
from edgeslm.weights import F32Array

log = logger("verify")

# Limits by quantisation level, the finest first: each names a measurement and its bound.
Limits = dict[str, float]
LIMITS: dict[str, Limits] = {
    "none": {"max_relative_error": 1e-4},
    "fp16": {"kl": 0.001},
    "int8": {"kl": 0.01, "top1_agreement": 0.97},
    "int4": {"kl": 0.2, "top1_agreement": 0.75},
}
EXACT_KV = {"native": "f32"}  # the kv_dtype that adds no rounding of its own: what is verified is the conversion
LITERTLM = "litertlm"  # the role of the file that LiteRT-LM opens
_AT_LEAST = {"top1_agreement"}
CHUNK = 64  # rows per forward pass: bounds the logits held at once
STEPS = 32  # rows at the end that are run one by one
# An interpreter dequantises all weights in each pass: above this size of a target it runs a sample of the rows.
INTERPRETED_BYTES, SAMPLE_ROWS, SAMPLE_STEPS = 64 << 20, 16, 2
INTERPRETED = "its operations were interpreted in NumPy; Apple's compiler was not run"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measurement:
    """One engine on one target."""

    engine: str
    isa: str  # what computed, as the engine tells it
    max_abs_error: float
    max_relative_error: float
    kl: float
    top1_agreement: float
    tokens: int
    limits: Limits  # those that it is within, else those of its level
    passed: bool
    note: str = ""  # what has to be known about it


@dataclass(frozen=True)
class Report:
    """What verification found: per target, one measurement for each engine that ran it."""

    targets: dict[str, list[Measurement]]

    @property
    def passed(self) -> bool:
        """Was every target verified, at least one, and is each within its limits?"""
        return bool(self.targets) and all(ms and all(m.passed for m in ms) for ms in self.targets.values())

    def to_json(self) -> dict[str, Any]:
        """Per target the worst engine's figures, and all engines' below them."""
        return {"passed": self.passed, "targets": {k: target_json(v) for k, v in self.targets.items()}}


def target_json(measurements: list[Measurement]) -> dict[str, Any]:
    """The worst measurement of a target with all of them under ``engines``; just ``passed`` if none was made."""
    if not measurements:
        return {"passed": False, "engine": None, "engines": {}}
    worst = min(measurements, key=lambda m: (m.passed, -m.kl))
    return {**asdict(worst), "engines": {m.engine: asdict(m) for m in measurements}}


def verify(
    bundle: Bundle,
    *,
    engine: str | None = None,
    against: str | Path | None = None,
    threads: int | None = None,
    best_only: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Measure every target with each engine that can run it here.

    Args:
        bundle: an opened bundle; open it with ``check="full"`` to have all hashes compared.
        engine: only this one, on the target that it runs.
        against: a checkpoint to recompute the original's answer from, instead of trusting ``reference.npz``.
        threads: for the engines.
        best_only: with the preferred engine of each target alone.
        progress: called with what is running, rows done and rows in all.

    Raises:
        BundleError: there is no usable ``reference.npz``.
        ArgumentError: the engine does not exist, or the checkpoint is of another model.
    """
    only = None if engine is None else _served_by(engine)
    answer = _answer(bundle, against, progress)
    report: dict[str, list[Measurement]] = {}
    for target, entry in bundle.manifest.targets.items():
        if only not in (None, target):
            continue
        names = engines_for(bundle, target) if engine is None else [engine]
        level = str(entry.settings.get("quantize"))
        if level not in LIMITS:
            raise BundleError(f"{bundle.folder}: target {target!r} has no quantize level among {sorted(LIMITS)}")
        if LITERTLM in entry.files:
            _check_litertlm(bundle, entry)
        report[target] = []
        for name in names[:1] if best_only else names:
            log.info("verifying %s with %s", target, name)
            # It takes few tokens, and each weight once.
            running = open_engine(bundle, name, threads, force=True, kv_dtype=EXACT_KV.get(name))
            try:
                report[target].append(_measure_fitting(running, bundle, target, answer, level, partial(progress, name)))
            finally:
                running.close()
    return Report(report)


def _measure_fitting(
    engine: Engine,
    bundle: Bundle,
    target: str,
    answer: ReferenceAnswer,
    level: str,
    progress: Callable[[int, int], None],
) -> Measurement:
    """:func:`measure`, on a sample of the rows where an interpreter runs a large model; with a note if one ran."""
    if engine.isa != "interpreter":
        return measure(engine, answer, level, progress)
    size = sum(bundle.manifest.files[name].bytes for name in bundle.target(target).files.values())
    if size <= INTERPRETED_BYTES:
        return replace(measure(engine, answer, level, progress), note=INTERPRETED)
    found = measure(engine, answer.first(SAMPLE_ROWS), level, progress, SAMPLE_STEPS)
    return replace(found, note=f"{INTERPRETED}; {found.tokens} tokens of {len(answer.ids)} were tried, for its size")


def measure(
    engine: Engine,
    answer: ReferenceAnswer,
    level: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    steps: int = STEPS,
) -> Measurement:
    """Run an engine over the answer's ids, the last ``steps`` one by one, and compare row by row.

    It passes within the limits of its level or of a finer one. So a model that is undecided between many tokens, as a
    translator is within a text that it was not asked about, passes int8 with a divergence that fp16 may have, though
    its likeliest token is often another of them.
    """
    session = engine.new_session()
    errors, divergences, agreements = [], [], []
    total = len(answer.ids)
    try:
        for start, stop in _pieces(total, steps):
            logits = session.forward(answer.ids[start:stop], rows="all")
            for i, row in enumerate(logits, start):
                errors.append(float(np.abs(row[answer.top_ids[i]] - answer.top_logits[i]).max()))
                divergences.append(divergence(answer, i, row))
                agreements.append(int(row.argmax()) == int(answer.top_ids[i, 0]))
            progress(stop, total)
    finally:
        session.close()
    peak = float(np.abs(answer.top_logits).max())
    found = {
        "max_abs_error": float(np.max(errors)),  # np.max, not max: a NaN must come through
        "max_relative_error": float(np.max(errors)) / max(peak, 1e-30),
        "kl": float(np.mean(divergences)),
        "top1_agreement": float(np.mean(agreements)),
    }
    met = [LIMITS[name] for name in _up_to(level) if _within(found, LIMITS[name])]
    limits = dict(met[-1] if met else LIMITS[level])
    return Measurement(engine.name, engine.isa, **found, tokens=total, limits=limits, passed=bool(met), note="")


def _up_to(level: str) -> list[str]:
    """The levels from the finest to this one."""
    names = list(LIMITS)
    return names[: names.index(level) + 1]


def _within(found: Mapping[str, float], limits: Limits) -> bool:
    """Written so that NaN fails every comparison."""
    return all(found[k] >= v if k in _AT_LEAST else found[k] <= v for k, v in limits.items())


def _pieces(total: int, steps: int) -> list[tuple[int, int]]:
    """Chunks of rows, then the last ``steps`` alone."""
    prompt = max(total - steps, 0)
    starts = [*range(0, prompt, CHUNK), *range(prompt, total)]
    return list(pairwise([*starts, total]))


def divergence(answer: ReferenceAnswer, i: int, row: F32Array) -> float:
    """KL(original || target) of row i over the original's top tokens plus one bin for all others (a lower bound)."""
    if not np.isfinite(row).all():
        return float("nan")
    log_p = answer.top_logits[i].astype(np.float64) - float(answer.logsumexp[i])
    log_q = row[answer.top_ids[i]].astype(np.float64) - log_sum_exp(row)
    kl = float((np.exp(log_p) * (log_p - log_q)).sum())
    rest_p, rest_q = (max(1.0 - float(np.exp(x).sum()), 0.0) for x in (log_p, log_q))
    if rest_p > 1e-7:  # below that it is the rounding of a sum of ones
        kl += rest_p * (np.log(rest_p) - np.log(max(rest_q, 1e-30)))
    return max(kl, 0.0)


def _check_litertlm(bundle: Bundle, entry: TargetEntry) -> None:
    """The file that LiteRT-LM opens holds the model that is measured here, and the bundle's tokenizer."""
    name, model = entry.files[LITERTLM], np.frombuffer(bundle.map(entry.files["model"]), np.uint8)
    check_litertlm(np.frombuffer(bundle.map(name), np.uint8), name, bundle.spec, model, bundle.read(TOKENIZER_JSON))


def _served_by(engine: str) -> str:
    """The target that an engine runs."""
    if engine not in ENGINES:
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}; found {engine!r}")
    return ENGINES[engine][0]


def _answer(bundle: Bundle, against: str | Path | None, progress: Progress) -> ReferenceAnswer:
    stored = parse_answer(bundle.read(NAME), bundle.spec) if bundle.has(NAME) else None
    if against is None:
        if stored is None:
            raise BundleError(
                f"{bundle.folder}: no {NAME} to compare with; name the original: verify --against CHECKPOINT"
            )
        return stored
    from edgeslm.converters.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(against, context=bundle.spec.context_length)
    if checkpoint.spec != bundle.spec:
        raise ArgumentError(
            f"{against}: describes another model than {bundle.folder}; name the one it was converted from"
        )
    ids = stored.ids if stored else reference_ids(bundle.spec, encode=None)
    return compute_answer(checkpoint.spec, checkpoint.weights, ids, lambda d, t: progress("original", d, t))
