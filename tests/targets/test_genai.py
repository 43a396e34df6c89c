"""onnxruntime-genai opens the same folder and generates the same ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from genai_greedy import genai_ids, import_genai
from tiny_decoders import make_ids, make_rope, make_spec, make_weights, replace_attention, write_bundle
from tokenizers import Tokenizer

from edgeslm.bundle import Bundle
from edgeslm.cli import inspect
from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.converters.genai_config import genai_config
from edgeslm.converters.policy import Options
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.errors import UnsupportedModelError
from edgeslm.spec import DecoderSpec, Rope


@pytest.fixture(scope="module")
def genai() -> Any:
    return import_genai()


def our_ids(bundle: Bundle, prompt: list[int], count: int) -> list[int]:
    session, ids = OnnxRuntimeEngine.open(bundle, 1).new_session(), list(prompt)
    for _ in range(count):
        ids.append(int(session.forward(ids[session.length :])[0].argmax()))
    return ids[len(prompt) :]


def longrope(switch_at: int) -> Rope:
    short = make_rope(16).inv_freq
    return Rope(short, 1.2, tuple(0.5 * f for f in short), 1.3, switch_at)


def windowed(*windows: int, context: int) -> DecoderSpec:
    """Layers with these windows, 0 for none, twice over."""
    spec = make_spec(context=context)
    blocks = tuple(replace_attention(spec, window=w).blocks[0] for w in windows)
    return dataclasses.replace(spec, blocks=blocks, layout=tuple(range(len(windows))) * 2)


SPECS = {
    "fused rotation": make_spec(),
    "head_dim 8": make_spec(head_dim=8),
    "padded heads, one kv head": make_spec(head_dim=20, kv_heads=1),
    "window, biases, untied": make_spec(attention={"window": 8, "qkv_bias": True}, tied=False),
    "window over half the context": make_spec(attention={"window": 40}),
    "short longrope": make_spec(rope=longrope(64)),
    "long longrope": make_spec(rope=longrope(16)),
}


@pytest.mark.parametrize("level", ["none", "fp16", "int8", "int4"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_greedy_ids_are_equal(genai: Any, tmp_path: Path, spec: DecoderSpec, level: str) -> None:
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options(level))
    prompt = make_ids(spec, 12).tolist()
    found, expected = genai_ids(genai, bundle.folder, prompt, 40), our_ids(bundle, prompt, 40)
    end = expected.index(spec.vocab_size - 1) if spec.vocab_size - 1 in expected else 40
    assert found == expected[:end]


@pytest.mark.parametrize("prompt_tokens", [12, 300])
@pytest.mark.parametrize("windows", [(8,), (8, 0), (8, 20), (150, 0)], ids=str)
def test_ids_stay_equal_past_bounded_caches(
    genai: Any, tmp_path: Path, windows: tuple[int, ...], prompt_tokens: int
) -> None:
    """Rows are dropped on both sides: ours keep 128 beyond the window."""
    spec = windowed(*windows, context=600)
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("none"))
    prompt = make_ids(spec, prompt_tokens).tolist()
    found, expected = genai_ids(genai, bundle.folder, prompt, 290), our_ids(bundle, prompt, 290)
    end = expected.index(spec.vocab_size - 1) if spec.vocab_size - 1 in expected else 290
    assert found == expected[:end]


def test_layers_with_windows_are_listed() -> None:
    window = genai_config(windowed(8, 0, 20, context=600), {}, "m")["model"]["decoder"]["sliding_window"]
    assert (window["window_size"], window["layers"]) == (20, [0, 2, 3, 5])
    assert "sliding_window" not in genai_config(make_spec(), {}, "m")["model"]["decoder"]


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


def test_unequal_caches_are_left_to_the_other_engines(tmp_path: Path) -> None:
    small, large = make_spec(head_dim=8, attention={"rope": -1}).blocks[0], make_spec().blocks[0]
    spec = DecoderSpec(130, 64, 1e-5, 64, (large, small), (0, 1), make_spec().ropes, True)
    with pytest.raises(UnsupportedModelError, match="onnxruntime-genai"):
        genai_config(spec, {}, "model.onnx")
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options("none"))
    assert not bundle.has("genai_config.json") and "genai_config" not in bundle.target("onnx").files
    (note,) = bundle.target("onnx").settings["notes"]
    assert "genai_config.json" in note
    assert CliRunner().invoke(inspect.command, [str(bundle.folder)]).output.count(note) == 1
    assert len(our_ids(bundle, [1, 2], 5)) == 5


@pytest.mark.parametrize("level", ["none", "int8", "int4"])
def test_a_trained_model_tells_the_same_story(genai: Any, tmp_path: Path, shared: Path, level: str) -> None:
    checkpoint = open_checkpoint(shared / "models/stories260K")
    bundle = write_bundle(tmp_path / "b", checkpoint.spec, checkpoint.weights, Options(level))
    prompt = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json")).encode("Once upon a time").ids
    found = genai_ids(genai, bundle.folder, prompt, 100)
    assert len(found) == 100 and found == our_ids(bundle, prompt, 100)
