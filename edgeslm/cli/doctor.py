"""``edgeslm doctor``: what this machine and installation can do."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from edgeslm._version import __version__
from edgeslm.cli.options import json_option
from edgeslm.cli.output import print_json, print_table

PACKAGES = (
    "numpy",
    "tokenizers",
    "jinja2",
    "onnxruntime",
    "ai-edge-litert",
    "coremltools",
    "onnx",
    "safetensors",
    "huggingface-hub",
)
# Those that matter to kernels, as /proc/cpuinfo names them.
CPU_FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve"),
)


@click.command(short_help="Show what edgeslm finds here.")
@click.option("--timeout", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds for each engine.")
@json_option
def command(timeout: float, as_json: bool) -> None:
    """Show what edgeslm finds here: Python, CPU, engines (and why one cannot be used), package versions.

    Each engine is tried in a process of its own, which is stopped after --timeout seconds: whatever a library does
    there, it is reported.

    \b
    edgeslm doctor
    edgeslm doctor --json
    """
    found = examine(timeout)
    if as_json:
        print_json(found)
        return
    lists = {k: ", ".join(v) if isinstance(v, list) else v for k, v in found.items() if not isinstance(v, dict)}
    print_table(("here", ""), [(k.replace("_", " "), v) for k, v in lists.items()])
    engines = [(name, "yes" if e["available"] else "no", e["reason"]) for name, e in found["engines"].items()]
    print_table(("engine", "available", ""), engines)
    print_table(("package", "version"), [(k, v or "not installed") for k, v in found["packages"].items()])


def examine(timeout_s: float) -> dict[str, Any]:
    """Everything that a report of a problem should contain."""
    from edgeslm.cli.trial import why_not
    from edgeslm.engines.registry import ENGINES
    from edgeslm.engines.threads import usable_cpus

    with ThreadPoolExecutor(len(ENGINES)) as pool:
        reasons = dict(zip(ENGINES, pool.map(lambda name: why_not(name, timeout_s), ENGINES), strict=True))
    return {
        "edgeslm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": usable_cpus(),
        "cpu_features": cpu_features(),
        "isa": None if reasons["native"] else _isa(),
        "engines": {name: {"available": not reason, "reason": reason} for name, reason in reasons.items()},
        "packages": {name: _version(name) for name in PACKAGES},
    }


def cpu_features() -> list[str]:
    """The features among CPU_FEATURES that the system reports; none where it does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    words = set(text.split())
    return [feature for feature in CPU_FEATURES if feature in words]


def _isa() -> str:
    """The instruction set of the native kernels here."""
    from edgeslm._native import isa

    return isa()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
