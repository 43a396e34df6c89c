"""Makes pairs to train on of a phrasebook: what letters, signs, menus and headings say, unlike learners' sentences.

\b
    python phrasebook.py book/en-de.tsv phrasebook/en-de.tsv
    python phrasebook.py book/de-en.tsv phrasebook/en-de.tsv --reverse

Each line of it is a phrase and its translation, written by hand, in the languages that its name tells; `{month}` and
the like stand for one of a list below, in both. All end with a full stop, as `edgeslm translate` asks; what begins with
a small letter is also there with a capital, and so is the translation of what begins with one. Of several translations
of a phrase the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import corpus
import numpy as np
import prepare

from edgeslm.translation.phrasebook import fits

MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
WEEKDAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
}
SURNAMES = "Smith Miller Weber Schmidt Jones Brown Fischer Meyer Taylor Wagner Clark Becker Hoffmann Schulz Lewis Koch"
SURNAMES += " Richter Klein Wolf Walker Hall Young King Wright Scott Green Baker Adams Nelson Hill Campbell Lehmann"
SHE = "Anna Maria Mary Julia Laura Sarah Lisa Emma Sophie Katharina Claudia Susanne Petra Karin Helen Kate Jane Emily"
SHE += " Alice Christine Martina Eva Nina Ruth Barbara"
HE = "Tom Thomas Peter Paul John Michael Martin Stefan Andreas David Daniel Max Felix Lukas Jan Frank Klaus Hans Jack"
HE += " James Robert William George Henry Oliver"
DATES = {"month": MONTHS, "weekday": WEEKDAYS}
ALIKE = {
    "surname": SURNAMES.split(),
    "she": SHE.split(),
    "he": HE.split(),
    "number": [str(number) for number in range(2, 31)],  # of more than one: "a la 1", but "a las 2"
    "hour": [str(hour) for hour in range(2, 13)],
    "year": [str(year) for year in range(1990, 2041)],
}
SLOT = re.compile(r"\{(\w+)\}")
CARD = {"surname": "name", "she": "name", "he": "name", "number": "number", "hour": "number", "year": "number"}


def slots(languages: tuple[str, str]) -> dict[str, list[corpus.Pair]]:
    """What each slot stands for, in two languages."""
    if unknown := set(languages) - set(MONTHS):
        raise click.UsageError(f"expected languages of {', '.join(MONTHS)}, found {', '.join(sorted(unknown))}")
    source, target = languages
    dates = {slot: list(zip(of[source].split(), of[target].split(), strict=True)) for slot, of in DATES.items()}
    return dates | {slot: [(word, word) for word in words] for slot, words in ALIKE.items()}


def filled(
    pair: corpus.Pair, words: dict[str, list[corpus.Pair]], times: int, rng: np.random.Generator
) -> Iterator[corpus.Pair]:
    """A pair without slots, or `times` of one with some."""
    names = set(SLOT.findall(pair[0]))
    for _ in range(times if names else 1):
        source, target = pair
        for name in sorted(names):
            word = words[name][rng.integers(len(words[name]))]
            source, target = source.replace(f"{{{name}}}", word[0]), target.replace(f"{{{name}}}", word[1])
        yield source, target


def as_asked(text: str) -> str:
    """With a full stop, which also takes the place of a greeting's comma, or its colon in Spanish."""
    text = text.rstrip(",:")
    return text if text.endswith((".", "!", "?")) else text + "."


def for_card(book: Path, reverse: bool, held_out: set[str]) -> dict[str, str]:
    """The phrases for a card: dates written out, and slots for names and numbers.

    Left out are dev and test sentences, what a card cannot have, and what a name's sex decides. Else the first of
    several translations counts.
    """
    words, found = slots(corpus.direction(book)), dict[str, list[str]]()
    for phrase in corpus.read(book):
        dates = [slot for slot in DATES if f"{{{slot}}}" in phrase[0]]
        for chosen in product(*(words[slot] for slot in dates)):
            pair = phrase
            for slot, word in zip(dates, chosen, strict=True):
                pair = (pair[0].replace(f"{{{slot}}}", word[0]), pair[1].replace(f"{{{slot}}}", word[1]))
            source, target = (SLOT.sub(lambda slot: f"{{{CARD[slot[1]]}}}", side) for side in pair)
            source, target = (target, source) if reverse else (source, target)
            if fits(source, target) and not {corpus.key(source), corpus.key(target)} & held_out:
                found.setdefault(source, []).append(target)
    return {source: targets[0] for source, targets in found.items() if len({*targets}) == 1 or "{name}" not in source}


def with_capitals(pair: corpus.Pair) -> Iterator[corpus.Pair]:
    """As it is if it begins with none, and with capitals: "Monday" is "Lundi", but "lundi" is "Monday" too."""
    if not pair[0][0].isupper():
        yield pair
    yield (pair[0][0].upper() + pair[0][1:], pair[1][0].upper() + pair[1][1:])


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("book", type=click.Path(path_type=Path, exists=True))
@prepare.kept_out_option
@click.option("--reverse", is_flag=True, help="From the phrasebook's second language to its first.")
@click.option("--times", default=20, show_default=True, help="How often a phrase with slots is filled.")
def main(out: Path, book: Path, kept_out: Path, reverse: bool, times: int) -> None:
    rng, known, made = np.random.default_rng(0), prepare.held_out(kept_out), dict[str, str]()
    words = slots(corpus.direction(book))
    for phrase in corpus.read(book):
        for pair in filled(phrase, words, times, rng):
            for source, target in with_capitals(pair[::-1] if reverse else pair):
                made.setdefault(as_asked(source), as_asked(target))
    kept = [pair for pair in made.items() if not any(corpus.key(side) in known for side in pair)]
    click.echo(f"{out}: {corpus.write(out, kept):,} of {len(made):,}; the others are dev or test sentences")


if __name__ == "__main__":
    main()
