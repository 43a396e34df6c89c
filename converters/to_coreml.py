"""The Core ML target: a package with one program that keeps its cache in states (iOS 18, macOS 15).

It runs by Core ML itself and by swift-transformers; docs/coreml.md tells how.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgeslm._version import __version__
from edgeslm.converters.coreml_builder import CoremlBuilder, interface
from edgeslm.converters.coreml_program import Program, require_coremltools
from edgeslm.converters.coreml_states import cache_groups
from edgeslm.converters.coreml_weights import WeightPlan, compute_format, plan_weights, stored_formats, write_weights
from edgeslm.converters.graph_constants import graph_constants
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import Staging
from edgeslm.decoder import build
from edgeslm.manifest import TargetEntry
from edgeslm.spec import DecoderSpec, parameter_count

if TYPE_CHECKING:
    from edgeslm.converters.checkpoint import Checkpoint

SUFFIX = ".mlpackage"
_DATA = "Data/com.apple.CoreML/"
FILES = {"manifest": "Manifest.json", "model": _DATA + "model.mlmodel", "weights": _DATA + "weights/weight.bin"}
NOT_RUN = "Apple's compiler was not run: the program was checked by an interpreter of its operations"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def write_target(
    checkpoint: Checkpoint, options: Options, staging: Staging, progress: Callable[[str, int, int], None]
) -> TargetEntry:
    """Write the package into the staging folder.

    Raises:
        MissingExtraError: the coremltools package is not installed.
        CheckpointError: a weight cannot be read.
    """
    spec = checkpoint.spec
    folder = staging.free_name("model", (SUFFIX,)) + SUFFIX
    files = {role: f"{folder}/{path}" for role, path in FILES.items()}
    plan = plan_weights(spec, options, graph_constants(spec))
    program = build_program(spec, plan, options)
    staging.write(files["model"], program.serialize(_metadata(checkpoint), _user_metadata(checkpoint)))
    staging.write(files["manifest"], package_manifest())
    write_weights(staging.path(files["weights"]), plan, checkpoint.weights, lambda d, t: progress("coreml", d, t))
    staging.add(files["weights"])
    return TargetEntry(files, _settings(spec, options, plan))


def check_options(spec: DecoderSpec, options: Options) -> None:
    """Refuse, before any work, what has no Core ML form.

    Raises:
        UnsupportedModelError: int4 for rows of an odd length.
        MissingExtraError: the coremltools package is not installed.
    """
    require_coremltools()
    stored_formats(spec, options)


def build_program(spec: DecoderSpec, plan: WeightPlan, options: Options) -> Program:
    """The program of a decoder over a planned weight file."""
    compute = {"f16": "fp16", "f32": "fp32"}[compute_format(options)]
    program = Program(interface(spec, compute), plan)
    with program.function:
        logits = build(spec, CoremlBuilder(spec, program, compute))
        program.function.set_outputs([logits])
    return program


def package_manifest() -> bytes:
    """``Manifest.json``: the items of a package. Its identifiers need only differ from each other."""
    paths = {"model.mlmodel": "CoreML Model Specification", "weights": "CoreML Model Weights"}
    ids = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, "com.apple.CoreML/" + name)) for name in paths}
    entries = {
        ids[name]: {
            "author": "com.apple.CoreML",
            "description": description,
            "name": name,
            "path": "com.apple.CoreML/" + name,
        }
        for name, description in paths.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": ids["model.mlmodel"],
    }
    return (json.dumps(manifest, indent=4) + "\n").encode()


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    millions = parameter_count(checkpoint.spec) / 1e6
    return {
        "shortDescription": f"{checkpoint.source} ({checkpoint.model_type}, {millions:.1f} M parameters), "
        f"{checkpoint.spec.context_length} tokens of context",
        "author": checkpoint.source,
        "license": checkpoint.licence or "not stated by the checkpoint",
        "versionString": __version__,
    }


def _user_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What programs read; swift-transformers fetches the tokenizer of ``co.huggingface.exporters.name``."""
    return {
        "co.huggingface.exporters.name": _hub_id(checkpoint),
        "co.huggingface.exporters.task": "text-generation",
        "io.edgeslm.context_length": str(checkpoint.spec.context_length),
        "io.edgeslm.tokenizer": _hub_id(checkpoint),
        "io.edgeslm.version": __version__,
    }


def _hub_id(checkpoint: Checkpoint) -> str:
    """The model's id on the Hub, as the user or its config names it; else just its name."""
    candidates = (checkpoint.source, checkpoint.config.get("_name_or_path"))
    return next((c for c in candidates if isinstance(c, str) and _HUB_ID.fullmatch(c)), checkpoint.source)


def _settings(spec: DecoderSpec, options: Options, plan: WeightPlan) -> dict[str, Any]:
    """The options, and what became of them."""
    others = {
        name: 0 if tensor.group_size == tensor.blobs["data"].shape[1] else tensor.group_size  # 0: a scale for each row
        for name, tensor in plan.tensors.items()
        if tensor.group_size not in (0, options.group_size)
    }
    return {
        **options.settings(),
        **({"other_group_sizes": others} if others else {}),
        "compute": "float32" if compute_format(options) == "f32" else "float16",
        "states": {
            name: {"layers": list(group.layers), "window": group.window}
            for group in cache_groups(spec)
            for name in group.names
        },
        "notes": [NOT_RUN],
    }
