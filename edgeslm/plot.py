"""Pictures of measurements, drawn by matplotlib (extra "plot")."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeslm.errors import ArgumentError, MissingExtraError
from edgeslm.files import replacing

SUFFIXES = (".png", ".svg", ".pdf")
_SPEEDS = {"prefill": "prompt", "decode": "new"}  # what is drawn, and the field of its number of tokens


def check_plot(path: Path) -> None:
    """Can a picture be drawn into this file? To be asked before anything that takes long.

    Raises:
        ArgumentError: no name of a picture, or no folder for it.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"--plot {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ArgumentError(f"--plot {path}: there is no folder {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing", "matplotlib", "plot")


def plot_speed(path: Path, results: Sequence[dict[str, Any]], title: str) -> None:
    """Tokens per second against the depth of the cache, prefill above decode, as ``edgeslm bench`` measured them.

    Args:
        results: fields of :class:`edgeslm.benchmark.Benchmark`; a line for each engine, thread count, KV type and
            number of tokens, with the range of the repeats.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    for axes, (part, tokens) in zip(figure.subplots(2, sharex=True), _SPEEDS.items(), strict=True):
        for label, line in _lines(results, tokens).items():
            depths, speeds = ([r[key] for r in line] for key in ("depth", f"{part}_tok_s"))
            slowest, fastest = zip(*(r[f"{part}_range"] for r in line), strict=True)
            axes.plot(depths, speeds, marker="o", label=label)
            axes.fill_between(depths, slowest, fastest, alpha=0.2)
        axes.set(title=part, ylabel="tokens/s", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    axes.set_xlabel("tokens in the cache")
    figure.suptitle(title)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)


def _lines(results: Sequence[dict[str, Any]], tokens: str) -> dict[str, list[dict[str, Any]]]:
    """Label → its results, shallowest first."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for r in sorted(results, key=lambda r: int(r["depth"])):
        label = f"{r['engine']} {r['isa']}, {r['threads']} threads, KV {r['kv_dtype']}, {r[tokens]} tokens"
        lines.setdefault(label, []).append(r)
    return lines
