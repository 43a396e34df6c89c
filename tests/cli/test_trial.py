"""Engines tried in a process of their own: whatever a library does, it is said and not suffered."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import make_trial
import numpy as np
import pytest
from bundle_files import list_anew

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.cli import trial
from edgeslm.cli.trial import why_not
from edgeslm.engines import registry
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.engines.registry import open_engine
from edgeslm.errors import EngineError

Fake = Callable[[str], str]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Makes an onnxruntime of a few lines, and says why it cannot be used."""
    (tmp_path / "onnxruntime").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")

    def verdict(source: str, timeout_s: float = 60) -> str:
        (tmp_path / "onnxruntime/__init__.py").write_text(source)
        return why_not("onnxruntime", timeout_s)

    return verdict


@pytest.mark.parametrize("name", ["native", "reference", "onnxruntime", "litert", "coreml"])
def test_engines_pass_here(name: str) -> None:
    assert why_not(name) == ""


def test_wrong_answers_are_told(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedded.TRIAL, tmp_path / "trial"))
    with np.load(folder / "reference.npz") as stored:
        arrays = dict(stored)
    arrays["logsumexp"] += 1
    np.savez(folder / "reference.npz", **arrays)
    list_anew(folder, "reference.npz")
    with pytest.raises(EngineError, match="answers wrongly: KL"):
        trial._run("litert", folder)


def test_the_trial_is_what_its_script_makes(tmp_path: Path) -> None:
    make_trial.make(tmp_path / "made")
    made, shipped = Bundle.open(tmp_path / "made"), Bundle.open(embedded.TRIAL, check="full")
    assert made.fingerprint("litert") == shipped.fingerprint("litert")
    with np.load(made.folder / "reference.npz") as new, np.load(shipped.folder / "reference.npz") as old:
        assert new.files == old.files
        np.testing.assert_allclose(new["logsumexp"], old["logsumexp"], rtol=1e-5)  # BLAS sums in its own order


def test_an_instruction_set_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESLM_ISA", "nonsense")
    assert "set EDGESLM_ISA to one of" in why_not("native")


def test_an_illegal_instruction_is_named(fake: Fake) -> None:
    found = fake("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert found.startswith("crashes: SIGILL (Illegal instruction)") and "install another version" in found


def test_other_crashes_are_named(fake: Fake) -> None:
    assert fake("import os; os.abort()") == "crashes: SIGABRT (Aborted)"
    assert fake("import ctypes; ctypes.string_at(8)") == "crashes: SIGSEGV (Segmentation fault)"


def test_a_hang_ends_in_time(fake: Callable[[str, float], str]) -> None:
    assert fake("import time; time.sleep(600)", 1.5) == "hangs: no answer within 1.5 s"


def test_endless_output_is_neither_kept_nor_waited_for(fake: Callable[[str, float], str]) -> None:
    assert fake("while True: print('x' * 1000)", 1.5) == "hangs: no answer within 1.5 s"


def test_what_a_library_said_is_shown_without_its_bytes(fake: Fake) -> None:
    found = fake("import sys; sys.stdout.buffer.write(b'\\x00\\xff\\x1b[31mgarbage \\n\\n'); sys.exit(3)")
    assert found == "fails: �[31mgarbage (exit code 3)"
    assert fake("raise ImportError('GLIBC_2.99 not found')") == "fails: ImportError: GLIBC_2.99 not found (exit code 1)"
    assert (
        fake("import os; os._exit(0)") == "fails: no word (exit code 0)"
    )  # gone without a crash, and without a result
    assert len(fake("import sys; sys.exit('x' * 5000)")) < 300


def test_a_library_that_does_nothing_is_no_engine(fake: Fake) -> None:
    assert fake("").startswith("fails: AttributeError")


def test_codes_that_windows_ends_a_process_with() -> None:
    assert trial._crash(0xC000001D) == "illegal instruction"
    assert trial._crash(1) == "" and trial._crash(-200) == "signal 200"


def test_an_engine_that_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_verdict", lambda *_: pytest.fail("tried"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "edgeslm[onnx]" in why_not("onnxruntime")


def test_an_installation_without_native_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pure-Python wheel is: the NumPy engine takes their place, also for auto."""
    monkeypatch.setattr(registry, "unavailable", without_native(registry.unavailable))
    monkeypatch.setattr(registry, "has_native_kernels", lambda: False)
    assert "pure Python" in registry.unavailable("native") and "reference" in registry.unavailable("native")
    bundle = Bundle.open(embedded.BUNDLE)
    assert registry.engines_for(bundle, "onnx") == ["reference"]
    engine = open_engine(bundle)
    assert isinstance(engine, ReferenceEngine)
    engine.close()


def without_native(real: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: "not installed" if name == "onnxruntime" else real(name)
