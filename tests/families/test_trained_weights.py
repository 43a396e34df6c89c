"""Trained weights in other families' clothes: the embedded translator, rewritten so that each family computes the same.

Random weights say little about quantisation; these let int8 and int4 pass verification through each family's own
reading of fused tensors, multipliers and layers. Families whose blocks add norms have no such disguise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import edgeslm
from edgeslm.converters.checkpoint_weights import widen
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.safetensors_file import read_safetensors
from edgeslm.embedded import CHECKPOINT as MODEL

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
Disguise = Callable[[Tensors, dict[str, Any]], None]


def mistral(tensors: Tensors, config: dict[str, Any]) -> None:
    config["sliding_window"] = 300  # longer than any sentence


def ministral(tensors: Tensors, config: dict[str, Any]) -> None:
    config |= {
        "sliding_window": 300,
        "layer_types": ["sliding_attention", "full_attention"] * (config["num_hidden_layers"] // 2),
    }


def qwen2(tensors: Tensors, config: dict[str, Any]) -> None:
    for i in range(config["num_hidden_layers"]):
        for name, width in (("q", 256), ("k", 128), ("v", 128)):
            tensors[f"model.layers.{i}.self_attn.{name}_proj.bias"] = np.zeros(width, np.float32)


def smollm3(tensors: Tensors, config: dict[str, Any]) -> None:
    config["no_rope_layers"] = [1] * config["num_hidden_layers"]


def phi3(tensors: Tensors, config: dict[str, Any]) -> None:
    config |= {"original_max_position_embeddings": 512, "sliding_window": None}
    for i in range(config["num_hidden_layers"]):
        for block, fused, parts in (
            ("self_attn", "qkv_proj", ("q_proj", "k_proj", "v_proj")),
            ("mlp", "gate_up_proj", ("gate_proj", "up_proj")),
        ):
            prefix = f"model.layers.{i}.{block}."
            rows = [tensors.pop(f"{prefix}{part}.weight") for part in parts]
            tensors[f"{prefix}{fused}.weight"] = np.concatenate(rows)


def granite(tensors: Tensors, config: dict[str, Any]) -> None:
    config |= {"embedding_multiplier": 4.0, "logits_scaling": 0.25, "residual_multiplier": 0.5}
    config["attention_multiplier"] = config["head_dim"] ** -0.5
    tensors["model.embed_tokens.weight"] /= 4
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name] *= 2


@pytest.fixture(scope="module")
def original() -> Tensors:
    stored = read_safetensors(MODEL / "model.safetensors")
    return {name: widen(t.data.view("<u2").reshape(t.shape)) for name, t in stored.items()}


def disguised(folder: Path, original: Tensors, disguise: Disguise) -> Path:
    shutil.copytree(MODEL, folder)
    config = json.loads((MODEL / "config.json").read_text())
    for key in ("attention_bias", "mlp_bias"):
        del config[key]
    config["model_type"] = disguise.__name__
    tensors = {name: values.copy() for name, values in original.items()}
    disguise(tensors, config)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("disguise", [mistral, ministral, qwen2, smollm3, phi3, granite], ids=lambda f: f.__name__)
def test_quantised_bundles_pass_verification(tmp_path: Path, original: Tensors, disguise: Disguise) -> None:
    checkpoint = disguised(tmp_path / "checkpoint", original, disguise)
    for level in ("none", "int8", "int4"):
        report = convert(checkpoint, tmp_path / level, options=Options(level)).verification
        assert report is not None and report.passed, (level, report)
        assert len(report.targets["onnx"]) == 2
    for engine in ("native", "onnxruntime"):
        with edgeslm.load(tmp_path / "int8", engine=engine) as model:
            result = model.generate("<s><2de> Where is the train station?<sep>")
            assert (result.text, result.finish_reason) == (" Wo ist der Bahnhof?", "eos")
