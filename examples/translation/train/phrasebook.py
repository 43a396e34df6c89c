"""Makes pairs to train on of a phrasebook: what letters, signs, menus and headings say, unlike learners' sentences.

\b
    python phrasebook.py book/en-de.tsv phrasebook/en-de.tsv
    python phrasebook.py book/de-en.tsv phrasebook/en-de.tsv --reverse

Each line of it is a phrase and its translation, written by hand; `{month}` and the like stand for one of a list below,
in both languages. All end with a full stop, as `edgeslm translate` asks, and what begins with a small letter is also
there with a capital. Of several translations of a phrase the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import corpus
import numpy as np
import prepare

MONTHS = "January/Januar February/Februar March/März April/April May/Mai June/Juni July/Juli August/August"
MONTHS += " September/September October/Oktober November/November December/Dezember"
WEEKDAYS = "Monday/Montag Tuesday/Dienstag Wednesday/Mittwoch Thursday/Donnerstag Friday/Freitag Saturday/Samstag"
WEEKDAYS += " Sunday/Sonntag"
SURNAMES = "Smith Miller Weber Schmidt Jones Brown Fischer Meyer Taylor Wagner Clark Becker Hoffmann Schulz Lewis Koch"
SURNAMES += " Richter Klein Wolf Walker Hall Young King Wright Scott Green Baker Adams Nelson Hill Campbell Lehmann"
SHE = "Anna Maria Mary Julia Laura Sarah Lisa Emma Sophie Katharina Claudia Susanne Petra Karin Helen Kate Jane Emily"
SHE += " Alice Christine Martina Eva Nina Ruth Barbara"
HE = "Tom Thomas Peter Paul John Michael Martin Stefan Andreas David Daniel Max Felix Lukas Jan Frank Klaus Hans Jack"
HE += " James Robert William George Henry Oliver"


def entries(text: str) -> list[corpus.Pair]:
    """Words that are alike in both languages, or have a stroke between the two."""
    return [(source, target or source) for source, _, target in (word.partition("/") for word in text.split())]


SLOTS = {
    "month": entries(MONTHS),
    "weekday": entries(WEEKDAYS),
    "surname": entries(SURNAMES),
    "she": entries(SHE),
    "he": entries(HE),
    "number": entries(" ".join(map(str, range(2, 31)))),
    "hour": entries(" ".join(map(str, range(1, 13)))),
    "year": entries(" ".join(map(str, range(1990, 2041)))),
}
SLOT = re.compile(r"\{(\w+)\}")


def filled(pair: corpus.Pair, times: int, rng: np.random.Generator) -> Iterator[corpus.Pair]:
    """A pair without slots, or `times` of one with some."""
    names = set(SLOT.findall(pair[0]))
    for _ in range(times if names else 1):
        source, target = pair
        for name in sorted(names):
            word = SLOTS[name][rng.integers(len(SLOTS[name]))]
            source, target = source.replace(f"{{{name}}}", word[0]), target.replace(f"{{{name}}}", word[1])
        yield source, target


def as_asked(text: str) -> str:
    text = text.rstrip(",")
    return text if text.endswith((".", "!", "?")) else text + "."


def with_capitals(pair: corpus.Pair) -> Iterator[corpus.Pair]:
    yield pair
    if pair[0][0].islower():
        yield (pair[0][0].upper() + pair[0][1:], pair[1][0].upper() + pair[1][1:])


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("book", type=click.Path(path_type=Path, exists=True))
@prepare.kept_out_option
@click.option("--reverse", is_flag=True, help="From the phrasebook's second language to its first.")
@click.option("--times", default=20, show_default=True, help="How often a phrase with slots is filled.")
def main(out: Path, book: Path, kept_out: Path, reverse: bool, times: int) -> None:
    rng, known, made = np.random.default_rng(0), prepare.held_out(kept_out), dict[str, str]()
    for phrase in corpus.read(book):
        for pair in filled(phrase, times, rng):
            for source, target in with_capitals(pair[::-1] if reverse else pair):
                made.setdefault(as_asked(source), as_asked(target))
    kept = [pair for pair in made.items() if not any(corpus.key(side) in known for side in pair)]
    click.echo(f"{out}: {corpus.write(out, kept):,} of {len(made):,}; the others are dev or test sentences")


if __name__ == "__main__":
    main()
