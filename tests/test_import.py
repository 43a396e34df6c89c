"""Importing edgeslm is cheap, and what it exports is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeslm
import edgeslm.converters

HEAVY = {
    *("tokenizers", "jinja2", "rich", "click", "onnx", "onnxruntime", "safetensors", "huggingface_hub", "torch"),
    *("transformers", "coremltools", "tensorflow", "flatbuffers", "ml_dtypes"),
}


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    child = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    return {
        name.split(".")[0] for name in subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()
    }


@pytest.mark.parametrize("code", ["import edgeslm", "import edgeslm.converters", "from edgeslm import *"])
def test_no_heavy_library_is_imported(code: str) -> None:
    loaded = loaded_by(code)
    assert "edgeslm" in loaded
    assert not loaded & HEAVY


def test_the_bare_import_does_not_even_load_numpy() -> None:
    assert "numpy" not in loaded_by("import edgeslm")


def test_a_translation_does_not_load_what_takes_longer_than_it() -> None:
    code = "import sys, edgeslm; print(edgeslm.Translator.load().translate('Hello.', 'en', 'de').text, file=sys.stderr)"
    assert not loaded_by(code) & {"numpy", "logging", "ctypes"}


@pytest.mark.parametrize(
    "code",
    [
        "from edgeslm.log import logger; logger('part').error('unseen')",
        "import edgeslm.converters.convert, logging; logging.getLogger('edgeslm.convert').error('unseen')",
    ],
)
def test_the_library_prints_nothing(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_every_logger_is_one_that_prints_nothing() -> None:
    package = Path(edgeslm.__file__).parent
    sources = [p for folder in (package, Path(edgeslm.converters.__file__).parent) for p in folder.rglob("*.py")]
    direct = [p.name for p in sources if 'getLogger("edgeslm' in p.read_text("utf-8")]
    assert len(sources) > 100 and direct == ["log.py"]


def test_every_export_is_there() -> None:
    for name in edgeslm.__all__:
        assert getattr(edgeslm, name) is not None
    assert edgeslm.__all__ == sorted(edgeslm.__all__)
    assert set(dir(edgeslm)) == set(edgeslm.__all__)


def test_every_error_is_exported() -> None:
    from edgeslm import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == {name for name in edgeslm.__all__ if name.endswith("Error")}


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        edgeslm.nonsense  # noqa: B018


def test_a_source_tree_in_the_way_still_imports_the_whole_package() -> None:
    """Python started in a checkout finds its edgeslm/ before the installed one."""
    root = Path(__file__).parents[1]
    code = "import edgeslm.api, edgeslm.converters.verify, edgeslm._native; print(edgeslm.__file__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert Path(done.stdout.decode().strip()).parent == root / "edgeslm"
