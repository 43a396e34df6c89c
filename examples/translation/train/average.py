"""Averages the weights of checkpoints that began with the same one: a model soup.

Wortsman et al. 2022, https://arxiv.org/abs/2203.05482. It often translates better than each of them, at no cost.

\b
    python average.py runs/student runs/student-0 runs/student-1
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import network


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--share", "shares", multiple=True, type=float, help="Weight of the run in the same place (all alike).")
def main(out: Path, runs: tuple[Path, ...], shares: tuple[float, ...]) -> None:
    if shares and len(shares) != len(runs):
        raise click.UsageError(f"expected a --share for each of {len(runs)} runs, found {len(shares)}")
    models = [network.load(run) for run in runs]
    if any(model.size != models[0].size for model in models):
        raise click.UsageError("expected checkpoints of one size")
    weights = [share / sum(shares) for share in shares] or [1 / len(runs)] * len(runs)
    parts = [model.state_dict() for model in models]
    mean = {name: sum(part[name] * weight for part, weight in zip(parts, weights, strict=True)) for name in parts[0]}
    models[0].load_state_dict(mean)
    network.save(models[0], out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(runs[0] / name, out / name)
    click.echo(f"{out}: the mean of {len(runs)}")


if __name__ == "__main__":
    main()
