"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import click

Item = TypeVar("Item")


def number(high: float = math.inf) -> Callable[[str], float]:
    """Reads a number from 0 to ``high``; click's own float takes NaN and infinity too."""

    def read(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not (0 <= found <= high and math.isfinite(found)):
            bound = "" if math.isinf(high) else f" to {high:g}"
            raise click.BadParameter(f"{value!r} is not a finite number from 0{bound}")
        return found

    return read


def engine_name(value: str) -> str:
    """Reads an engine of the registry, or auto."""
    from edgeslm.engines.registry import ENGINES

    if value != "auto" and value not in ENGINES:
        raise click.BadParameter(f"{value!r} is not one of auto, {', '.join(ENGINES)}")
    return value


def separated(item: Callable[[str], Item]) -> Callable[[str], list[Item]]:
    """Reads comma-separated values."""
    return lambda value: [item(part.strip()) for part in value.split(",")]


THREADS = click.IntRange(1, 256)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, all else on stderr.")
threads_option = click.option("--threads", type=THREADS, help="Threads to compute with; default: the usable CPUs.")
engine_option = click.option(
    "--engine",
    type=engine_name,
    metavar="NAME",
    default="auto",
    show_default=True,
    help="native, onnxruntime, reference or auto.",
)
