"""Bundles that will not fit are refused before they are loaded, in words; with force they are loaded."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgeslm
from edgeslm import memory_check
from edgeslm.bundle import Bundle
from edgeslm.capacity import Limit
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.errors import EngineError, MemoryLimitError
from edgeslm.footprint import footprint
from edgeslm.memory_check import check_memory

CONTEXT = 1 << 18  # tokens: a large cache for a small model
LEFT = 400 << 20
LIMIT = 700 << 20  # more than Python and its libraries take, less than with such a cache
PROMPT = "The little cat"


@pytest.fixture(scope="session")
def long_bundle(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 32}
    make_checkpoint(folder / "hf", max_position_embeddings=CONTEXT, **heads)
    convert(folder / "hf", folder / "bundle", options=Options("int8"), context=CONTEXT, check=False)
    return folder / "bundle"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is left."""

    def set_limits(*limits: Limit) -> None:
        monkeypatch.setattr(memory_check, "limits", lambda: list(limits))

    return set_limits


def refusal(bundle: Path, engine: str = "native") -> str:
    with pytest.raises(MemoryLimitError) as caught:
        check_memory(Bundle.open(bundle), engine, "onnx", 2)
    return str(caught.value)


def test_the_message_says_what_is_needed_what_is_left_and_what_to_do(
    long_bundle: Path, left: Callable[..., None]
) -> None:
    left(Limit(10**12, "memory of this machine"), Limit(LEFT, "memory of control group jobs"))
    message = refusal(long_bundle)
    assert re.search(rf"needs \d+ MB \(weights \d+ MB, cache of {CONTEXT} tokens \d+ MB, working", message)
    assert "419 MB are left of the memory of control group jobs" in message
    tokens = int(re.search(r"--context (\d+)", message)[1])  # type: ignore[index]
    assert CONTEXT / 8 < tokens < CONTEXT / 1.5
    assert "--quantize int4" in message and "--force (force=True)" in message
    assert issubclass(MemoryLimitError, EngineError)


def test_it_fits_to_the_byte(long_bundle: Path, left: Callable[..., None]) -> None:
    bundle = Bundle.open(long_bundle)
    formats = {name: (t.format, t.group_size) for name, t in bundle.target("onnx").tensors.items()}
    need = footprint(bundle.spec, formats, 2).total_bytes
    left(Limit(need, "memory"))
    check_memory(bundle, "native", "onnx", 2)
    left(Limit(need - 1, "memory"))
    assert "are left of the memory" in refusal(long_bundle)


def test_a_smaller_kind_of_cache_is_advised_where_it_helps(long_bundle: Path, left: Callable[..., None]) -> None:
    bundle = Bundle.open(long_bundle)
    formats = {name: (t.format, t.group_size) for name, t in bundle.target("onnx").tensors.items()}
    left(Limit(footprint(bundle.spec, formats, 2, "int8").total_bytes, "memory"))
    assert "--kv-dtype int8" in refusal(long_bundle)
    check_memory(bundle, "native", "onnx", 2, kv_dtype="int8")
    left(Limit(LEFT // 4, "memory"))
    assert "int8" not in refusal(long_bundle)


def test_what_a_limit_counts(tiny_bundle: Path, left: Callable[..., None]) -> None:
    """Address space: stacks of threads too. Data: no mapped weights."""
    left(Limit(10 << 20, "address space", of_addresses=True))
    assert "address space" in refusal(tiny_bundle)
    need = memory_check.Need(weights=1000, copies=100, cache=10, scratch=1, stacks=10000)
    assert need.under(Limit(0, "")) == 1111
    assert need.under(Limit(0, "", of_addresses=True)) == 11111
    assert need.under(Limit(0, "", of_files=False)) == 111


def test_engines_that_copy_weights_need_more(tiny_bundle: Path, left: Callable[..., None]) -> None:
    bundle = Bundle.open(tiny_bundle)
    files = sum(bundle.manifest.files[n].bytes for n in set(bundle.target("onnx").files.values()))
    left(Limit(2 * files, "memory"))
    message = refusal(tiny_bundle, "onnxruntime")
    assert "copies of them" in message and "use the native engine" in message and "--quantize" not in message


def test_force_warns_and_loads(long_bundle: Path, left: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    left(Limit(LEFT, "memory"))
    with pytest.raises(MemoryLimitError):
        edgeslm.load(long_bundle, engine="native")
    with caplog.at_level(logging.WARNING), edgeslm.load(long_bundle, engine="native", force=True) as model:
        assert model.generate(PROMPT, max_new_tokens=2).tokens
    assert "the system may end this process" in caplog.text


def run_limited(bundle: Path, limit: int, size: int, *options: str) -> subprocess.CompletedProcess[str]:
    """``edgeslm run`` in a process of its own, under a limit that the system enforces."""
    command = [sys.executable, "-m", "edgeslm", "run", str(bundle), PROMPT, "--max-new-tokens", "2", "--threads", "1"]
    return subprocess.run(
        [*command, *options],
        preexec_fn=lambda: resource.setrlimit(limit, (size, size)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("limit", ["AS", "DATA"])
def test_a_limit_that_the_system_enforces(long_bundle: Path, limit: str) -> None:
    refused = run_limited(long_bundle, getattr(resource, f"RLIMIT_{limit}"), LIMIT)
    assert refused.returncode == 1 and "ulimit" in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr


def test_force_under_such_a_limit(long_bundle: Path) -> None:
    forced = run_limited(long_bundle, resource.RLIMIT_AS, LIMIT, "--force")
    assert forced.returncode == 0 and "Loading was forced" in forced.stderr, forced.stderr


def test_where_not_even_libraries_fit(long_bundle: Path) -> None:
    done = run_limited(long_bundle, resource.RLIMIT_AS, 120 << 20)
    assert done.returncode == 1 and "memory" in done.stderr.lower(), done.stderr
