"""BLEU and chrF (sacrebleu) of checkpoints and of bundles, greedy and with beams, on test sets.

\b
    python evaluate.py data/test/en-de.tsv data/test/de-en.tsv --model runs/student --model student-int8 --beam 4

A folder with edgeslm.json is a bundle: edgeslm translates with it as users do. Others are checkpoints of train.py,
in float32. Needs `pip install sacrebleu`. `--out scores.jsonl` adds a line for each figure.
"""

from __future__ import annotations

import json
from pathlib import Path

import batches
import click
import corpus
import network
import search
import torch
from rich.console import Console
from rich.table import Table


def from_bundle(folder: Path, source: str, target: str, texts: list[str], beam: int) -> list[str]:
    import edgeslm

    with edgeslm.Translator.load(folder) as translator:
        return [found.text for found in translator.translate_batch(texts, source, target, beams=beam)]


def from_checkpoint(folder: Path, target: str, texts: list[str], beam: int, device: str) -> list[str]:
    tokens, model = batches.tokenizer(folder), network.load(folder).to(device).eval()
    made = dict(search.translate([model], tokens, target, texts, beam))
    return [made[index] for index in range(len(texts))]


def scores(made: list[str], wanted: list[str]) -> dict[str, float]:
    import sacrebleu

    return {
        "bleu": round(sacrebleu.corpus_bleu(made, [wanted]).score, 2),
        "chrf": round(sacrebleu.corpus_chrf(made, [wanted]).score, 2),
    }


@click.command(help=__doc__)
@click.argument("tests", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", "models", multiple=True, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--beam", "beams", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Add the figures to this file, one JSON object a line.")
@click.option("--threads", type=int, help="CPU threads (all).")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(
    tests: tuple[Path, ...],
    models: tuple[Path, ...],
    beams: tuple[int, ...],
    out: Path | None,
    threads: int | None,
    device: str,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    table = Table("model", "direction", "beam", "BLEU", "chrF")
    for model in models:
        for path in tests:
            source, target = corpus.direction(path)
            texts, wanted = (list(side) for side in zip(*corpus.read(path), strict=True))
            for beam in beams:
                bundle = (model / "edgeslm.json").exists()
                made = (
                    from_bundle(model, source, target, texts, beam)
                    if bundle
                    else from_checkpoint(model, target, texts, beam, device)
                )
                found = scores(made, wanted)
                table.add_row(
                    str(model), f"{source}-{target}", str(beam), f"{found['bleu']:.1f}", f"{found['chrf']:.1f}"
                )
                if out:
                    with out.open("a") as lines:
                        lines.write(
                            json.dumps({"model": str(model), "direction": f"{source}-{target}", "beam": beam, **found})
                            + "\n"
                        )
    Console().print(table)


if __name__ == "__main__":
    main()
