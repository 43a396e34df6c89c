"""``edgeslm plan``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from edgeslm import probe
from edgeslm.devices import find_device

Edgeslm = Callable[..., Any]
FIGURES = {
    *("weights_bytes", "kv_bytes", "scratch_bytes", "process_bytes", "total_bytes", "memory_bytes", "fits"),
    *("prefill_tok_s", "decode_tok_s", "first_token_s", "bytes_per_token", "kv_dtype"),
}
QWEN = {  # Qwen2.5-0.5B's config, in what matters
    **{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24},
    **{"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    **{"max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with nothing but a config: no weight is needed to plan."""
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen/config.json").write_text(json.dumps(QWEN))
    return tmp_path / "qwen"


def test_a_checkpoint_that_is_not_there_yet(edgeslm: Edgeslm, source: Path) -> None:
    found = edgeslm("plan", source, "--device", "rpi5-8gb", "--json").json
    assert set(found) > FIGURES and found["quantize"] == "int8" and found["fits"] is True
    assert list(found["levels"]) == ["none", "fp16", "int8", "int4"]
    weights = [level["weights_bytes"] for level in found["levels"].values()]
    assert weights == sorted(weights, reverse=True) and weights[0] > 4 * 494e6
    assert all(set(level) == FIGURES for level in found["levels"].values())
    assert found["context"] == 4096 and found["prompt_tokens"] == 256
    assert found["memory_bytes"] == find_device("rpi5-8gb").memory_bytes
    assert sum(term["seconds"] for term in found["prefill"]) == pytest.approx(found["first_token_s"])
    assert sum(term["seconds"] for term in found["decode"]) == pytest.approx(1 / found["decode_tok_s"])
    assert found["device"]["sources"]["read_bytes_per_s"]


def test_what_fits_a_small_board(edgeslm: Edgeslm, source: Path) -> None:
    small = edgeslm("plan", source, "--device", "pi-zero-2w", "--context", 512, "--json").json
    assert [level["fits"] for level in small["levels"].values()] == [False] * 4 and small["quantize"] == "int4"
    larger = edgeslm("plan", source, "--device", "rpi4-4gb", "--context", 512, "--json").json
    assert larger["fits"] and larger["kv_bytes"] == small["kv_bytes"]
    assert larger["decode_tok_s"] > small["decode_tok_s"]
    longer = edgeslm("plan", source, "--device", "rpi4-4gb", "--context", 32768, "--json").json
    assert longer["kv_bytes"] == 64 * larger["kv_bytes"]


def test_kinds_of_cache(edgeslm: Edgeslm, source: Path) -> None:
    kinds = ("f32", "f16", "int8")
    found = [edgeslm("plan", source, "--device", "rpi5-8gb", "--kv-dtype", kind, "--json").json for kind in kinds]
    assert [f["kv_dtype"] for f in found] == [*kinds]
    f32, f16, int8 = (f["kv_bytes"] for f in found)
    assert f32 / 2.1 < f16 < f32 / 1.9 and f16 / 2 < int8 < f16
    read = [f["bytes_per_token"] for f in found]
    assert read[0] > read[1] > read[2]
    assert found[0]["weights_bytes"] == found[2]["weights_bytes"]


def test_one_level_alone_and_text(edgeslm: Edgeslm, source: Path) -> None:
    done = edgeslm("plan", source, "--device", "rpi5-8gb", "--quantize", "int4", "--group-size", 128)
    assert done.code == 0 and "int4\t" in done.out and "int8\t" not in done.out
    assert "int4: fits" in done.out and "GB/s x 0.87)" in done.out and "source" in done.out
    done = edgeslm("plan", source, "--device", "pi-zero-2w", "--quantize", "none")
    assert done.code == 0 and "none: does not fit" in done.out


def test_a_bundle_as_it_was_quantised(edgeslm: Edgeslm, tiny_bundle: Path) -> None:
    found = edgeslm("plan", tiny_bundle, "--device", "rpi5-8gb", "--json").json
    assert found["quantize"] == "int4" and list(found["levels"]) == ["int4"]
    assert all("(q4)" in term["what"] for term in found["decode"] if "MB (" in term["what"])
    shorter = edgeslm("plan", tiny_bundle, "--device", "rpi5-8gb", "--context", 16, "--json").json
    assert shorter["context"] == 16 == shorter["prompt_tokens"] and shorter["kv_bytes"] <= found["kv_bytes"]
    done = edgeslm("plan", tiny_bundle, "--device", "rpi5-8gb", "--context", 10**6)
    assert done.code == 1 and "the bundle's own" in done.err


def test_this_machine(edgeslm: Edgeslm, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("REPEAT", "MACS", "SECONDS"):  # quick: no figure is looked at
        monkeypatch.setattr(probe, constant, 0.001)
    found = edgeslm("plan", tiny_bundle, "--device", "this", "--threads", 1, "--json").json
    assert found["device"]["threads"] == 1 and found["decode_tok_s"] > 0 and found["fits"]


def test_a_hub_id_from_the_cache_without_network(
    edgeslm: Edgeslm, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub/models--someone--tiny/snapshots/0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text((source / "config.json").read_text())
    (tmp_path / "hub/models--someone--tiny/refs").mkdir()
    (tmp_path / "hub/models--someone--tiny/refs/main").write_text(snapshot.name)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = edgeslm("plan", "someone/tiny", "--device", "rpi5-8gb", "--json").json
    assert found["weights_bytes"] > 494e6


def test_a_hub_id_that_is_not_to_be_had(edgeslm: Edgeslm, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(hub_id: str, name: str) -> str:
        assert (hub_id, name) == ("someone/else", "config.json")
        raise LocalEntryNotFoundError("offline, and not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    done = edgeslm("plan", "someone/else", "--device", "rpi5-8gb")
    assert done.code == 1 and "someone/else: no such folder here" in done.err and "offline" in done.err


def test_wrong_usage(edgeslm: Edgeslm, source: Path, tmp_path: Path) -> None:
    for arguments in ((), ("--device", "gameboy"), ("--device", "rpi5-8gb", "--context", 0)):
        assert edgeslm("plan", source, *arguments).code == 2
    assert "rpi5-8gb" in edgeslm("plan", source, "--device", "gameboy").err
    done = edgeslm("plan", tmp_path / "absent", "--device", "rpi5-8gb")
    assert done.code == 1 and "no such folder" in done.err
    done = edgeslm("plan", source, "--device", "rpi5-8gb", "--quantize", "none", "--embed", "int8")
    assert done.code == 1 and "keeps the embedding unquantised" in done.err
    (source / "config.json").write_text(json.dumps({**QWEN, "rope_scaling": {"rope_type": "spiral", "factor": 2}}))
    done = edgeslm("plan", source, "--device", "rpi5-8gb")
    assert done.code == 1 and "spiral" in done.err


def test_without_native_kernels(edgeslm: Edgeslm, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeslm.engines.registry.has_native_kernels", lambda: False)
    done = edgeslm("plan", tiny_bundle, "--device", "rpi5-8gb")
    assert done.code == 1 and "this installation is pure Python" in done.err and "another machine" in done.err
