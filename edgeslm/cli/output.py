"""What commands print: results on stdout, as one JSON value or as text; progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

Progress = Callable[[str, int, int], None]  # what is running, units done, units in all


def print_json(value: object) -> None:
    """One JSON value; numbers that JSON does not have become null."""
    click.echo(json.dumps(_finite(value), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table: drawn on a terminal, tab-separated elsewhere."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *cells]:
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title or None, title_justify="left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a name are no markup
    Console().print(table)


@contextmanager
def progress() -> Iterator[Progress]:
    """A callback that shows progress on stderr: bars on a terminal, a line per stage elsewhere."""
    if not sys.stderr.isatty():
        stages: set[str] = set()

        def announce(what: str, done: int, total: int) -> None:
            if what not in stages:
                stages.add(what)
                click.echo(f"{what} …", err=True)

        yield announce
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield advance


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


VERIFY_FAILED = 3  # exit code
VERIFICATION_COLUMNS = ("target", "engine", "max error", "KL", "top-1", "tokens", "limits", "result")
LIMITS = {"max_relative_error": "max error / max logit ≤", "kl": "KL ≤", "top1_agreement": "top-1 ≥"}


def print_verification(targets: dict[str, Any], title: str = "") -> None:
    """A row for each engine that ran a target, and below what has to be known about a row."""
    print_table(VERIFICATION_COLUMNS, [row for item in targets.items() for row in verification_rows(*item)], title)
    for target, found in targets.items():
        for note in dict.fromkeys(m["note"] for m in found["engines"].values() if m.get("note")):
            click.echo(f"{target}: {note}")


def verification_rows(target: str, found: dict[str, Any]) -> list[list[object]]:
    """Rows for VERIFICATION_COLUMNS: one for each engine that ran a target."""
    engines = found.get("engines") or {"none": found}
    return [
        [
            target,
            f"{engine} ({m['isa']})" if m.get("isa") else engine,
            *(("" if m.get(key) is None else f"{m[key]:.3g}") for key in ("max_abs_error", "kl", "top1_agreement")),
            m.get("tokens"),
            ", ".join(f"{LIMITS.get(k, k)} {v:g}" for k, v in m.get("limits", {}).items()),
            "passed" if m.get("passed") else "FAILED",
        ]
        for engine, m in engines.items()
    ]
