"""Opening checkpoints: the same weights however they are stored, and plain words for what is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import encode, llama, safetensors_bytes, tensors, write_checkpoint

from edgeslm.converters.checkpoint import Checkpoint, open_checkpoint
from edgeslm.converters.checkpoint_weights import CheckpointWeights, Stored, widen
from edgeslm.converters.safetensors_file import read_safetensors
from edgeslm.errors import ArgumentError, CheckpointError, EdgeslmError, MissingExtraError, UnsupportedModelError
from edgeslm.spec import tensor_shapes

Make = Callable[..., Path]


def all_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    shapes = tensor_shapes(checkpoint.spec)
    return {name: checkpoint.weights.rows(name, 0, shape[0]) for name, shape in shapes.items()}


def refused(folder: Path | str, kind: type[EdgeslmError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        open_checkpoint(folder)
    return str(caught.value)


def test_shards_hold_the_same_weights_as_one_file(tmp_path: Path) -> None:
    one = all_weights(open_checkpoint(write_checkpoint(tmp_path / "one", llama())))
    three = all_weights(open_checkpoint(write_checkpoint(tmp_path / "three", llama(), shards=3)))
    assert set(one) == set(three)
    for name, expected in one.items():
        np.testing.assert_array_equal(three[name], expected)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_stored_values_are_widened_exactly(dtype: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_checkpoint(tmp_path, llama(), dtype=dtype))
    stored = encode(tensors(llama())["model.layers.1.mlp.down_proj.weight"], dtype)
    if dtype == "BF16":
        expected = np.stack([np.zeros_like(stored), stored], axis=-1).view(np.float32)[..., 0]
    else:
        expected = stored.astype(np.float32)
    whole = checkpoint.weights.rows("layers.1.mlp.down", 0, 48)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(checkpoint.weights.rows("layers.1.mlp.down", 5, 9), expected[5:9])
    np.testing.assert_array_equal(
        checkpoint.weights.take("layers.1.mlp.down", np.array([7, 0, 7])), expected[[7, 0, 7]]
    )
    assert whole.dtype == np.float32 and whole.flags.c_contiguous and whole.flags.aligned


def test_unaligned_values_are_aligned() -> None:
    raw = np.frombuffer(b"\0" + np.arange(4, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32)
    assert not raw.flags.aligned
    assert widen(raw).flags.aligned and widen(raw).tolist() == [0, 1, 2, 3]


def test_a_weight_may_be_rows_of_a_fused_tensor_scaled_and_shifted(tmp_path: Path) -> None:
    """Families that store q, k, v or gate, up together, or norms less one, say so in their table."""
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "plain", llama(num_hidden_layers=1)))
    plain = tensors(llama(num_hidden_layers=1))
    gate_up = [f"model.layers.0.mlp.{n}_proj.weight" for n in ("gate", "up")]
    fused = {k: v for k, v in plain.items() if k not in gate_up}
    fused["gate_up"] = np.concatenate([plain[name] for name in gate_up])
    (tmp_path / "fused.safetensors").write_bytes(safetensors_bytes(fused))
    held = read_safetensors(tmp_path / "fused.safetensors")
    table = {
        **{name: Stored(f"model.layers.0.self_attn.{name[-1]}_proj.weight") for name in _attention_names()},
        "layers.0.mlp.gate": Stored("gate_up", scale=2.0),
        "layers.0.mlp.up": Stored("gate_up", first_row=80, offset=1.0),
        "layers.0.mlp.down": Stored("model.layers.0.mlp.down_proj.weight"),
        "layers.0.attn.norm_in": Stored("model.layers.0.input_layernorm.weight"),
        "layers.0.mlp.norm_in": Stored("model.layers.0.post_attention_layernorm.weight"),
        "embed": Stored("model.embed_tokens.weight"),
        "norm": Stored("model.norm.weight"),
        "head": Stored("lm_head.weight"),
    }
    weights = CheckpointWeights(checkpoint.spec, table, held, "fused")
    np.testing.assert_array_equal(weights.rows("layers.0.mlp.gate", 3, 5), 2 * plain[gate_up[0]][3:5])
    np.testing.assert_array_equal(weights.rows("layers.0.mlp.up", 3, 5), 1 + plain[gate_up[1]][3:5])
    np.testing.assert_array_equal(weights.take("layers.0.mlp.up", np.array([79])), 1 + plain[gate_up[1]][79:])
    del held["gate_up"]
    with pytest.raises(CheckpointError, match="missing: gate_up"):
        CheckpointWeights(checkpoint.spec, table, held, "fused")


def _attention_names() -> list[str]:
    return [f"layers.0.attn.{n}" for n in "qkvo"]


def test_missing_unexpected_and_misshapen_tensors_are_listed_at_once(tmp_path: Path) -> None:
    weights = dict(tensors(llama()))
    del weights["model.layers.0.self_attn.q_proj.weight"]
    del weights["model.norm.weight"]
    weights["model.layers.0.self_attn.q_norm.weight"] = np.ones(12, np.float32)
    weights["lm_head.weight"] = np.ones((95, 48), np.float32)
    write_checkpoint(tmp_path, llama())
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(weights))
    message = refused(tmp_path)
    assert "missing: model.layers.0.self_attn.q_proj.weight, model.norm.weight" in message
    assert "unexpected: model.layers.0.self_attn.q_norm.weight" in message
    assert "misshapen: lm_head.weight [95, 48] (expected [96, 48])" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_weights_that_are_not_finite_are_named_when_read(bad: float, dtype: str, tmp_path: Path) -> None:
    name = "model.layers.2.mlp.up_proj.weight"
    weights = dict(tensors(llama()))
    weights[name] = weights[name].copy()
    weights[name][7, 3] = bad
    write_checkpoint(tmp_path, llama())
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(weights, dtype))
    source = open_checkpoint(tmp_path).weights
    source.rows("layers.2.mlp.up", 8, 80)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: {name} holds NaN"):
        source.rows("layers.2.mlp.up", 0, 8)
    with pytest.raises(CheckpointError, match=name):
        source.take("layers.2.mlp.up", np.array([7]))


def test_other_dtypes_are_refused_by_name(tmp_path: Path) -> None:
    raw = (write_checkpoint(tmp_path, llama()) / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(raw.replace(b'"dtype": "F32"', b'"dtype": "I32"', 1))
    assert "model.embed_tokens.weight (I32)" in refused(tmp_path)


def test_tied_head(tmp_path: Path) -> None:
    """A stored head: fine where equal; taken where the embedding is missing; refused where they differ."""
    config = llama(tie_word_embeddings=True)
    weights = dict(tensors(config))
    folder = write_checkpoint(tmp_path, config)
    expected = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights))
    np.testing.assert_array_equal(all_weights(open_checkpoint(folder))["embed"], expected)
    (folder / "model.safetensors").write_bytes(
        safetensors_bytes({k: v for k, v in weights.items() if "embed" not in k})
    )
    np.testing.assert_array_equal(all_weights(open_checkpoint(folder))["embed"], expected)
    weights["lm_head.weight"] = expected + 1
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights))
    assert "lm_head.weight differs from the embedding" in refused(folder, UnsupportedModelError)


def test_derived_tensors_of_old_checkpoints_are_ignored(tmp_path: Path) -> None:
    weights = {**tensors(llama()), "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32)}
    folder = write_checkpoint(tmp_path, llama())
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights))
    assert open_checkpoint(folder).model_type == "llama"


def test_what_goes_with_a_checkpoint(tmp_path: Path, make_checkpoint: Make) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    (folder / "LICENSE").write_text("terms")
    (folder / "NOTICE.txt").write_text("notice")
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\n# Tiny\nlicense: other\n")
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.source, checkpoint.model_type, checkpoint.licence) == ("tiny", "llama", "apache-2.0")
    assert [p.name for p in checkpoint.licence_files] == ["LICENSE", "NOTICE.txt"]
    assert [p.name for p in checkpoint.weight_files] == ["model.safetensors"]
    assert checkpoint.generation_config == {"bos_token_id": 1, "eos_token_id": 2}
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert open_checkpoint(folder).generation_config == {"bos_token_id": 1, "eos_token_id": [5, 6]}
    (folder / "generation_config.json").write_text("[]")
    assert "generation_config.json" in refused(folder)


def test_context(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, llama())
    assert open_checkpoint(folder).spec.context_length == 128
    assert open_checkpoint(folder, context=32).spec.context_length == 32
    for bad in (0, -1, 129, 1.0, True):
        with pytest.raises(ArgumentError, match=r"expected 1\.\.128"):
            open_checkpoint(folder, context=bad)  # type: ignore[arg-type]


def test_symlinked_folders_and_files_are_followed(tmp_path: Path) -> None:
    """The Hub's cache is made of them."""
    real = write_checkpoint(tmp_path / "blobs", llama())
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in real.iterdir():
        (linked / path.name).symlink_to(path)
    (tmp_path / "link").symlink_to(linked, target_is_directory=True)
    assert open_checkpoint(tmp_path / "link").spec == open_checkpoint(real).spec


def with_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def test_pickles_are_refused_with_the_reason(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        message = refused(with_files(folder, "config.json", name), UnsupportedModelError)
        assert name in message and "runs whatever code is in it" in message
        assert "runs whatever code is in it" in refused(folder / name, UnsupportedModelError)


def test_safetensors_beside_pickles_are_used(tmp_path: Path) -> None:
    assert open_checkpoint(with_files(write_checkpoint(tmp_path, llama()), "pytorch_model.bin")).model_type == "llama"


def test_lora_and_gguf_are_not_supported_yet(tmp_path: Path) -> None:
    adapter, gguf = tmp_path / "adapter", tmp_path / "gguf"
    adapter.mkdir()
    gguf.mkdir()
    with_files(adapter, "adapter_config.json", "adapter_model.safetensors")
    with_files(gguf, "model-q4.gguf")
    assert "LoRA adapter; adapters are not supported yet" in refused(adapter, UnsupportedModelError)
    assert "GGUF files are not supported yet" in refused(gguf, UnsupportedModelError)
    assert "GGUF files are not supported yet" in refused(gguf / "model-q4.gguf", UnsupportedModelError)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "absent")
    assert "holds neither model.safetensors" in refused(tmp_path)
    with_files(tmp_path, "model.safetensors")
    assert "config.json: is missing" in refused(tmp_path)
    assert "is a file" in refused(tmp_path / "model.safetensors")
    with_files(tmp_path, "config.json")
    assert "config.json: not valid JSON" in refused(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json: expected an object" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "model_type": "qwen2"}')
    assert "same key twice" in refused(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(llama(num_key_value_heads=3)))
    assert "config.json" in refused(tmp_path) and "multiple of kv heads" in refused(tmp_path)


def test_hub_ids_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    folder = write_checkpoint(tmp_path / "cached", llama())
    asked = []

    def download(hub_id: str, allow_patterns: list[str]) -> str:
        asked.append((hub_id, "*.bin" in allow_patterns))
        return str(folder)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert open_checkpoint("org/name").source == "org/name"
    assert asked == [("org/name", False)]
    assert open_checkpoint("cached").source == "cached"


def test_hub_ids_need_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "edgeslm[convert]"' in refused("org/name", MissingExtraError)


def test_hub_failures_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(hub_id: str, allow_patterns: list[str]) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot reach the Hub\nsecond line")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = refused("org/name")
    assert "org/name" in message and "cannot reach the Hub" in message and "\n" not in message


class TestIndex:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_checkpoint(tmp_path / "model", llama(), shards=2)

    def edit(self, folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        change(index)
        path.write_text(json.dumps(index))

    @pytest.mark.parametrize(
        "name",
        [
            "../model.safetensors",
            "/etc/model.safetensors",
            "sub/model.safetensors",
            "..\\model.safetensors",
            "C:model.safetensors",
            "..safetensors",
            "model.bin",
            "model.safetensors\x00",
            "model.safetensors\n",
            "",
        ],
    )
    def test_shards_stay_inside_the_folder(self, folder: Path, name: str) -> None:
        write_checkpoint(folder.parent, llama())  # what ../ would find
        self.edit(folder, lambda index: index["weight_map"].update({"lm_head.weight": name}))
        assert "is not the name of a safetensors file in this folder" in refused(folder)

    def test_a_missing_shard_is_named(self, folder: Path) -> None:
        (folder / "model-00002-of-00002.safetensors").unlink()
        assert "model-00002-of-00002.safetensors" in refused(folder)

    def test_index_and_shards_must_agree(self, folder: Path) -> None:
        self.edit(folder, lambda index: index["weight_map"].pop("lm_head.weight"))
        assert "disagree about lm_head.weight" in refused(folder)

    @pytest.mark.parametrize("table", [None, [], {}, {"a": 1}])
    def test_the_table_must_be_one(self, folder: Path, table: object) -> None:
        self.edit(folder, lambda index: index.update(weight_map=table))
        assert "expected weight_map" in refused(folder)
