"""Bundles with the target "litert", made of tiny decoders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgeslm.bundle import Bundle
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import stage
from edgeslm.converters.to_litert import write_target
from edgeslm.manifest import Manifest
from edgeslm.spec import DecoderSpec
from edgeslm.weights import WeightSource


def write_litert_bundle(folder: Path, spec: DecoderSpec, weights: WeightSource, options: Options) -> Bundle:
    """A bundle without a tokenizer; the last id ends a text."""
    config = {"eos_token_id": spec.vocab_size - 1}
    source: Any = SimpleNamespace(spec=spec, weights=weights, generation_config=config, folder=folder)
    with stage(folder, None) as staging:
        target = write_target(source, options, staging, lambda what, done, total: None)
        staging.commit(Manifest(spec, dict(staging.files), {"litert": target}))
    return Bundle.open(folder)
