"""Learning curves of runs as a picture, and the table of an ablation.

\b
    python report.py --curves curves.png runs/teacher runs/student-alone runs/student
    python report.py --table scores.jsonl --row "teacher=runs/teacher" --row "student, int8=student-int8"

Needs `pip install matplotlib` for the picture.
"""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path

import click


def draw(out: Path, runs: tuple[Path, ...]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for run, style in zip(runs, cycle(("-", "--", ":", "-.")), strict=False):
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for color, direction in enumerate(log[-1]["dev"]):
            axes.plot(
                [row["tokens"] / 1e6 for row in log],
                [row["dev"][direction] for row in log],
                linestyle=style,
                color=f"C{color}",
                label=f"{run.name}, {direction}",
            )
    axes.set(xlabel="million tokens trained on", ylabel="dev loss, nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def megabytes(model: Path) -> str:
    """Size of a checkpoint's weights, or of a whole bundle."""
    bundle = (model / "edgeslm.json").exists()
    files = [path for path in model.rglob("*") if path.is_file() and (bundle or path.name == "model.safetensors")]
    return f"{sum(path.stat().st_size for path in files) / 1e6:.1f}"


def table(scores: Path, rows: list[tuple[str, str]]) -> str:
    found = [json.loads(line) for line in scores.read_text().splitlines()]
    columns = sorted({(score["direction"], score["beam"]) for score in found})
    lines = [["", "MB", *(f"{direction}, {'greedy' if beam == 1 else f'beam {beam}'}" for direction, beam in columns)]]
    for name, model in rows:
        latest = {
            (score["direction"], score["beam"]): f"{score['bleu']:.1f} / {score['chrf']:.1f}"
            for score in found
            if score["model"] == model
        }
        lines.append([name, megabytes(Path(model)), *(latest.get(column, "") for column in columns)])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--curves", type=click.Path(path_type=Path), help="Write the picture here.")
@click.option(
    "--table",
    "scores",
    type=click.Path(path_type=Path, exists=True),
    help="What evaluate.py --out wrote: print BLEU / chrF as Markdown.",
)
@click.option("--row", "rows", multiple=True, help="NAME=MODEL: a row of the table; many.")
def main(runs: tuple[Path, ...], curves: Path | None, scores: Path | None, rows: tuple[str, ...]) -> None:
    if curves:
        draw(curves, runs)
    if scores:
        click.echo(table(scores, [(name, model) for name, _, model in (row.rpartition("=") for row in rows)]))


if __name__ == "__main__":
    main()
