"""Makes training, dev and test data of both directions out of parallel corpora.

Every dev and test sentence is kept out of training.

\b
    python prepare.py data en-de=CORPORA/eng-deu en-fr=CORPORA/eng-fra

reads CORPORA/eng-deu.{train,dev,test}.tsv[.xz] and writes

\b
    data/{train,dev,test}/{en-de,de-en,…}.tsv  sentence pairs
    data/alone/en-de.tsv                       English sentences without a German side, for a teacher
    data/report.json                           how many there are of each, and how many were kept out

A pair is kept out of training if either side equals a sentence of any dev or test set, of whichever language, but
for case, punctuation and spaces. `python prepare.py data --check MORE.tsv …` looks for such sentences in any
training data, as teachers make it, and fails if it finds one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
import corpus

PARTS = ("train", "dev", "test")


def held_out(data: Path) -> set[str]:
    """The keys of all sentences in the dev and test sets."""
    return {
        corpus.key(side)
        for part in ("dev", "test")
        for path in sorted((data / part).glob("*.tsv"))
        for pair in corpus.read(path)
        for side in pair
    }


def cleaned(path: Path) -> list[corpus.Pair]:
    pairs = ((corpus.clean(source), corpus.clean(target)) for source, target in corpus.read(path))
    return list(dict.fromkeys(pair for pair in pairs if all(pair)))


def source_file(stem: str, part: str) -> Path:
    for suffix in (".tsv", ".tsv.xz"):
        if (path := Path(f"{stem}.{part}{suffix}")).exists():
            return path
    hint = "the README says where the corpora come from"
    raise click.UsageError(f"{stem}.{part}.tsv: expected this file, or packed as .tsv.xz, found neither; {hint}.")


def training(pairs: list[corpus.Pair], kept_out: set[str], counts: Counter[str]) -> list[corpus.Pair]:
    clean = [pair for pair in pairs if not any(corpus.key(side) in kept_out for side in pair)]
    counts["pairs kept out"] += len(pairs) - len(clean)
    return clean


def both_ways(data: Path, part: str, languages: tuple[str, str], pairs: list[corpus.Pair]) -> None:
    source, target = languages
    corpus.write(data / part / f"{source}-{target}.tsv", pairs)
    corpus.write(data / part / f"{target}-{source}.tsv", ((b, a) for a, b in pairs))


def alone(language: str, trains: dict[tuple[str, str], list[corpus.Pair]], lacking: str) -> list[corpus.Pair]:
    """Sentences of a language in any corpus that have no translation into `lacking`: (sentence, "")."""
    has = {a for (_, target), pairs in trains.items() if target == lacking for a, _ in pairs}
    return [
        (a, "")
        for a in dict.fromkeys(a for (s, _), pairs in trains.items() if s == language for a, _ in pairs)
        if a not in has
    ]


def check(data: Path, files: Iterable[Path]) -> None:
    kept_out = held_out(data)
    bad = [
        (path, side)
        for path in files
        for pair in corpus.read(path)
        for side in pair
        if side and corpus.key(side) in kept_out
    ]
    if bad:
        raise click.ClickException(
            f"{len(bad)} dev or test sentences in training data, the first {bad[0][1]!r} in {bad[0][0]}"
        )


kept_out_option = click.option(
    "--kept-out",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, exists=True),
    help="What prepare.py made: training pairs that have a dev or test sentence of it are left out.",
)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("pairs", nargs=-1, metavar="SOURCE-TARGET=STEM …")
@click.option(
    "--check",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Look for dev and test sentences in this training file.",
)
def main(data: Path, pairs: tuple[str, ...], files: tuple[Path, ...]) -> None:
    if files:
        check(data, files)
        click.echo(f"no dev or test sentence in {len(files)} files")
        return
    stems = {corpus.direction(Path(name)): stem for name, _, stem in (pair.partition("=") for pair in pairs)}
    if not stems:
        raise click.UsageError("expected pairs of languages, as in en-de=CORPORA/eng-deu")
    sets = {languages: {part: cleaned(source_file(stem, part)) for part in PARTS} for languages, stem in stems.items()}
    for languages, parts in sets.items():
        for part in ("dev", "test"):
            both_ways(data, part, languages, parts[part])
    kept_out, counts = held_out(data), Counter[str]()
    trains = {languages: training(parts["train"], kept_out, counts) for languages, parts in sets.items()}
    for (source, target), found in trains.items():
        both_ways(data, "train", (source, target), found)
        counts[f"train {source}-{target}"] = len(found)
        counts[f"alone {source} without {target}"] = corpus.write(
            data / "alone" / f"{source}-{target}.tsv", alone(source, trains, target)
        )
    check(data, sorted((data / "train").glob("*.tsv")) + sorted((data / "alone").glob("*.tsv")))
    report = data / ".report.json"
    report.write_text(json.dumps(counts, indent=1) + "\n")
    report.replace(data / "report.json")
    click.echo((data / "report.json").read_text(), nl=False)


if __name__ == "__main__":
    main()
