"""onnxruntime-genai opens the same folder and generates the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from genai_greedy import genai_ids, import_genai
from tiny_decoders import make_ids, make_spec, make_weights, write_bundle
from tokenizers import Tokenizer

from edgeslm.bundle import Bundle
from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.converters.genai_config import genai_config
from edgeslm.converters.policy import Options
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.errors import UnsupportedModelError
from edgeslm.spec import DecoderSpec


@pytest.fixture(scope="module")
def genai() -> Any:
    return import_genai()


def our_ids(bundle: Bundle, prompt: list[int], count: int) -> list[int]:
    session, ids = OnnxRuntimeEngine.open(bundle, 1).new_session(), list(prompt)
    for _ in range(count):
        ids.append(int(session.forward(ids[session.length :])[0].argmax()))
    return ids[len(prompt) :]


SPECS = {
    "fused rotation": make_spec(),
    "head_dim 8": make_spec(head_dim=8),
    "padded heads, one kv head": make_spec(head_dim=20, kv_heads=1),
    "window, biases, untied": make_spec(attention={"window": 8, "qkv_bias": True}, tied=False),
}


@pytest.mark.parametrize("level", ["none", "fp16", "int8", "int4"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_greedy_ids_are_equal(genai: Any, tmp_path: Path, spec: DecoderSpec, level: str) -> None:
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options(level))
    prompt = make_ids(spec, 12).tolist()
    found, expected = genai_ids(genai, bundle.folder, prompt, 40), our_ids(bundle, prompt, 40)
    end = expected.index(spec.vocab_size - 1) if spec.vocab_size - 1 in expected else 40
    assert found == expected[:end]


def test_the_generation_config_sets_the_defaults() -> None:
    generation = {"eos_token_id": 7, "bos_token_id": 1, "do_sample": True, "top_k": 20, "temperature": 0.6, "other": 1}
    config = genai_config(make_spec(), generation, "model-2.onnx")
    assert config["model"]["eos_token_id"] == [7] and config["model"]["bos_token_id"] == 1
    assert config["model"]["decoder"]["filename"] == "model-2.onnx"
    assert {k: config["search"][k] for k in ("do_sample", "top_k", "temperature", "max_length")} == {
        "do_sample": True, "top_k": 20, "temperature": 0.6, "max_length": 64,
    }  # fmt: skip
    assert "other" not in config["search"]


def test_ids_that_cannot_occur_end_nothing() -> None:
    assert genai_config(make_spec(), {"eos_token_id": [3, 130, -1]}, "m")["model"]["eos_token_id"] == [3]
    assert genai_config(make_spec(), {"eos_token_id": None}, "m")["model"]["eos_token_id"] == []


def test_unequal_caches_are_refused_by_name() -> None:
    small, large = make_spec(head_dim=8, attention={"rope": -1}).blocks[0], make_spec().blocks[0]
    spec = DecoderSpec(130, 64, 1e-5, 64, (large, small), (0, 1), make_spec().ropes, True)
    with pytest.raises(UnsupportedModelError, match="onnxruntime-genai"):
        genai_config(spec, {}, "model.onnx")


@pytest.mark.parametrize("level", ["none", "int8", "int4"])
def test_a_trained_model_tells_the_same_story(genai: Any, tmp_path: Path, shared: Path, level: str) -> None:
    checkpoint = open_checkpoint(shared / "models/stories260K")
    bundle = write_bundle(tmp_path / "b", checkpoint.spec, checkpoint.weights, Options(level))
    prompt = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json")).encode("Once upon a time").ids
    found = genai_ids(genai, bundle.folder, prompt, 100)
    assert len(found) == 100 and found == our_ids(bundle, prompt, 100)
