"""Lets one or several teachers translate the source sentences of files: sequence-level distillation.

Kim and Rush 2016, https://aclanthology.org/D16-1139.

\b
    python distill.py distilled/en-de.tsv data/train/en-de.tsv data/alone/en-de.tsv \\
        --teacher runs/teacher --teacher runs/teacher-2

A teacher that is a bundle (`edgeslm convert RUN BUNDLE`, with a translation.json) runs in edgeslm, which is several
times as fast on a processor.

With `--reverse`, the sentences are the *translations* of what the teacher makes: back-translation (Sennrich et al.
2016, https://aclanthology.org/P16-1009); the output is then named for the other direction, with the teacher's text
as the source. Runs again where it was stopped. What the teacher makes is checked against dev and test sentences,
and left out if it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import batches
import click
import corpus
import network
import prepare
import search
import torch
import workers
from rich.progress import track

CHUNK = {"cpu": 4096, "cuda": 65536}  # sentences between two saves
Translate = Callable[[list[str]], Iterable[tuple[int, str]]]  # (index, translation) of each text, in any order


def done(parts: Path) -> dict[str, str]:
    """What earlier, stopped runs have made."""
    return dict(pair for path in sorted(parts.glob("*.tsv")) for pair in corpus.read(path))


def from_bundle(
    teachers: tuple[Path, ...], source: str, target: str, beam: int, weigh: bool, device: str, threads: int | None
) -> Translate:
    import edgeslm

    if len(teachers) > 1:
        raise click.UsageError("expected one bundle as the teacher, or checkpoints")
    translator = edgeslm.Translator.load(teachers[0], threads=threads)
    return lambda texts: enumerate(
        found.text for found in translator.translate_batch(texts, source, target, beams=beam, rerank=weigh)
    )


def from_checkpoints(
    teachers: tuple[Path, ...], source: str, target: str, beam: int, weigh: bool, device: str, threads: int | None
) -> Translate:
    tokens = batches.tokenizer(teachers[0])
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    models = [network.load(folder).to(device, kind).eval() for folder in teachers]
    return lambda texts: search.translate(models, tokens, target, texts, beam, source if weigh else None)


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="A checkpoint of train.py; many. Or a bundle.",
)
@click.option(
    "--data",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, exists=True),
    help="What prepare.py made: its dev and test sets.",
)
@click.option("--beam", default=4, show_default=True, help="Lines of the beam search; 1 is greedy.")
@click.option("--weigh", is_flag=True, help="Weigh answers by the way back, which the teacher has to know.")
@click.option("--reverse", is_flag=True, help="Write (teacher's text, sentence) instead of (sentence, teacher's text).")
@click.option("--threads", type=int, help="CPU threads (all).")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(
    out: Path,
    sources: tuple[Path, ...],
    teachers: tuple[Path, ...],
    data: Path,
    beam: int,
    weigh: bool,
    reverse: bool,
    threads: int | None,
    device: str,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    workers.begin()
    source, target = corpus.direction(out)[:: -1 if reverse else 1]
    translate = from_bundle if (teachers[0] / "edgeslm.json").exists() else from_checkpoints
    made_of = translate(teachers, source, target, beam, weigh, device, threads)
    sentences = list(dict.fromkeys(pair[0] for path in sources for pair in corpus.read(path)))
    parts = out.with_suffix(".parts")
    made = done(parts)
    left = workers.share([sentence for sentence in sentences if sentence not in made])
    for start in track(
        range(0, len(left), CHUNK[device]), f"{out.stem}: {len(left):,} sentences left", disable=workers.rank() > 0
    ):
        chunk = left[start : start + CHUNK[device]]
        found = {chunk[index]: corpus.clean(text) for index, text in made_of(chunk)}
        corpus.write(parts / f"{len(made):08}-{workers.rank()}.tsv", found.items())
        made |= found
    workers.wait()
    if workers.rank():
        return
    made = done(parts)
    kept_out = prepare.held_out(data)
    pairs = [
        (made[s], s) if reverse else (s, made[s]) for s in sentences if made[s] and corpus.key(made[s]) not in kept_out
    ]
    click.echo(
        f"{out}: {corpus.write(out, pairs):,} of {len(sentences):,}; the others are empty or dev or test sentences"
    )


if __name__ == "__main__":
    main()
