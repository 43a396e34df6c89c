"""Trains a teacher or a student on files of sentence pairs, and goes on where it was stopped.

\b
    python train.py runs/teacher --tokenizer vocabulary --size teacher --tokens 40M \\
        --dev data/dev --data data/train/en-de.tsv --data data/train/de-en.tsv

RUN gets a checkpoint (Hugging Face Llama, bfloat16), state.pt to go on from, and log.jsonl. Run the same command
again after a stop. The learning rate rises for the first 2 % and falls to nothing along half a cosine. A file of
distilled pairs is given like any other; with --repeat 2 --repeat 1 each epoch has the first --data twice and the
second once. With --teacher, the student learns what the teacher thinks of each token, too. All is seeded but
--segment-dropout: the tokenizers library draws it from the system.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import batches
import click
import likely
import network
import torch
import workers
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from training import Settings, Training

SIZES = {
    "tiny": {"hidden": 64, "layers": 2, "heads": 2, "kv_heads": 1, "inner": 176},
    "student": {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 4, "inner": 704},
    "six-ways": {"hidden": 256, "layers": 12, "heads": 8, "kv_heads": 4, "inner": 896},
    "teacher": {"hidden": 512, "layers": 8, "heads": 8, "kv_heads": 8, "inner": 1408, "prefix": True},
}
AT_ONCE = {"cpu": 4096, "cuda": 98304}  # tokens that a teacher is asked about
SHOWN = 10  # batches between two lines: to look at a loss, a GPU has to be waited for
THERE = click.Path(path_type=Path, exists=True)


class Count(click.ParamType):
    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        try:
            return int(float(text.rstrip("kM")) * {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1))
        except ValueError:
            self.fail(f"expected a number such as 500k or 40M, found {text!r}", param, ctx)


def begin(start: Path | None, size: str, vocabulary: int, dropout: float) -> network.Decoder:
    if start:
        return network.load(start, dropout)
    return network.Decoder(network.Size(vocabulary=vocabulary, **SIZES[size]), dropout)


def asked(
    folder: Path, vocabulary: Path, directions: list[batches.Direction], loaders: int, device: str
) -> likely.Likely:
    teacher = network.load(folder).to(device, torch.bfloat16 if device == "cuda" else torch.float32).eval()
    return likely.ask(teacher, vocabulary, directions, AT_ONCE[device], loaders)


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tokenizer", "vocabulary", required=True, type=THERE, help="Folder with tokenizer.json.")
@click.option("--data", multiple=True, required=True, type=THERE, help="Sentence pairs, named like en-de.tsv; many.")
@click.option("--repeat", multiple=True, type=int, help="How often each epoch has the --data in the same place.")
@click.option("--dev", required=True, type=THERE, help="Folder of dev sets, named like the data.")
@click.option("--size", type=click.Choice(list(SIZES)), default="student", show_default=True)
@click.option("--start", type=THERE, help="Begin with this checkpoint's weights instead of random ones.")
@click.option("--tokens", type=Count(), help="To train on in all, padding not counted: 40M, 500k.")
@click.option("--minutes", type=float, help="To train in all, instead of --tokens.")
@click.option("--batch", type=Count(), default=4096, show_default=True, help="Tokens in a batch, padding counted.")
@click.option("--every", type=Count(), default="500k", show_default=True, help="Tokens between dev losses and saves.")
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Highest learning rate.")
@click.option("--decay", type=float, default=0.1, show_default=True, help="Weight decay of the matrices.")
@click.option("--muon", is_flag=True, help="Move the matrices of layers with Muon; for a GPU.")
@click.option("--dropout", type=float, default=0.1, show_default=True)
@click.option("--segment-dropout", type=float, default=0.0, show_default=True, help="Share of merges left out.")
@click.option("--whole-targets", is_flag=True, help="Leave none out in targets.")
@click.option("--smoothing", type=float, default=0.1, show_default=True, help="Label smoothing.")
@click.option(
    "--mean", type=float, default=0.0, help="Keep the weights' mean, which forgets all but this share in a step: 0.999."
)
@click.option("--teacher", type=THERE, help="Learn this checkpoint's probabilities, too.")
@click.option("--soft", type=float, default=0.5, show_default=True, help="Their share in the loss.")
@click.option(
    "--int4",
    type=click.Choice(("32", "64", "128")),
    callback=lambda ctx, param, value: int(value or 0),
    help="Train the weights that int4 in groups of this size leaves.",
)
@click.option("--int4-from", type=float, default=0.0, show_default=True, help="… from this share of the training on.")
@click.option("--int4-embedding", is_flag=True, help="… and the embedding.")
@click.option("--seed", default=0, show_default=True)
@click.option("--loaders", default=0, show_default=True, help="Processes that make batches, beside the training.")
@click.option("--threads", type=int, help="CPU threads (all).")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(
    run: Path,
    vocabulary: Path,
    data: tuple[Path, ...],
    repeat: tuple[int, ...],
    dev: Path,
    size: str,
    start: Path | None,
    dropout: float,
    segment_dropout: float,
    whole_targets: bool,
    teacher: Path | None,
    threads: int | None,
    **settings: Any,
) -> None:
    if (settings["tokens"] is None) == (settings["minutes"] is None):
        raise click.UsageError("expected --tokens or --minutes, one of them")
    if teacher and segment_dropout and not whole_targets:
        raise click.UsageError("expected --whole-targets: a teacher is asked about the tokens of whole targets")
    if threads:
        torch.set_num_threads(threads)
    workers.begin()
    torch.manual_seed(settings["seed"])
    run.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(vocabulary / name, run / name)
    model = begin(start, size, batches.tokenizer(vocabulary).get_vocab_size(), dropout)
    torch.manual_seed(settings["seed"] + workers.rank())  # the weights alike, dropout not
    cutting = batches.Cutting(segment_dropout, 0.0 if whole_targets else segment_dropout)
    training = Training(run, model, vocabulary, Settings(cutting=cutting, **settings))
    directions = batches.read(data, repeat)
    given = teacher and asked(teacher, vocabulary, directions, settings["loaders"], settings["device"])
    tests = sorted({dev / path.name for path in data})
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, disable=workers.rank() > 0) as progress:
        task = progress.add_task(run.name, total=1.0, completed=training.share, speed="")
        for index, loss in enumerate(training.losses(directions, tests, given)):
            if index % SHOWN == 0:
                speed = f"loss {loss:.3f}, {training.seen / max(training.seconds, 1):,.0f} tokens/s"
                progress.update(task, completed=training.share, speed=speed)
    if not workers.rank():
        click.echo(f"{run}: {training.seen:,} tokens in {training.seconds:,.0f} s")


if __name__ == "__main__":
    main()
