"""The ONNX target: two graphs of onnxruntime's contrib operators over one external data file.

The same folder opens in onnxruntime-genai, which reads ``genai_config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeslm.converters.data_file import DataPlan, plan_data, write_data
from edgeslm.converters.genai_config import genai_config
from edgeslm.converters.graph_constants import graph_constants
from edgeslm.converters.onnx_builder import INT8_ACTIVATIONS, OnnxBuilder, Rows
from edgeslm.converters.onnx_graph import Graph
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import Staging
from edgeslm.decoder import build
from edgeslm.errors import UnsupportedModelError
from edgeslm.log import logger
from edgeslm.manifest import TargetEntry
from edgeslm.spec import DecoderSpec

if TYPE_CHECKING:
    from edgeslm.converters.checkpoint import Checkpoint

log = logger("convert")

GENAI_CONFIG = "genai_config.json"
SUFFIXES = {"model": ".onnx", "model_all": "_all.onnx", "data": ".onnx.data"}
GRAPHS: dict[str, Rows] = {"model": "last", "model_all": "all"}


def write_target(
    checkpoint: Checkpoint, options: Options, staging: Staging, progress: Callable[[str, int, int], None]
) -> TargetEntry:
    """Write the target's files into the staging folder; what could not be written is noted in the settings.

    Raises:
        MissingExtraError: the onnx package is not installed.
        CheckpointError: a weight cannot be read.
    """
    spec, stem = checkpoint.spec, staging.free_name("model", tuple(SUFFIXES.values()))
    files = {role: stem + suffix for role, suffix in SUFFIXES.items()}
    plan = plan_data(spec, options, graph_constants(spec), files["data"])
    for role, rows in GRAPHS.items():
        staging.write(files[role], build_graph(spec, plan, rows))
    data = staging.path(files["data"])
    tensors = write_data(data, plan, checkpoint.weights, lambda d, t: progress("onnx", d, t))
    staging.add(files["data"])
    settings = options.settings()
    try:
        config = genai_config(spec, checkpoint.generation_config, files["model"])
    except UnsupportedModelError as error:
        log.warning("%s", error)
        settings["notes"] = [str(error)]
    else:
        files["genai_config"] = GENAI_CONFIG
        staging.write(GENAI_CONFIG, (json.dumps(config, indent=1) + "\n").encode())
    return TargetEntry(files, settings, tensors)


def build_graph(spec: DecoderSpec, plan: DataPlan, rows: Rows, accuracy_level: int = INT8_ACTIVATIONS) -> bytes:
    """The ``.onnx`` file that gives the logits of the last row (declared as one row), or of all rows.

    ``accuracy_level`` 0 computes quantised linears with float activations: slow, for comparing with the oracle.
    """
    graph = Graph(Path(plan.file).name)
    build(spec, OnnxBuilder(spec, plan, graph, rows, accuracy_level))
    return graph.serialize("decoder", {"context_length": str(spec.context_length)})
