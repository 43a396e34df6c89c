"""Exchanges names and numbers of sentence pairs for others, so that a student copies what it has never seen.

\b
    python names.py names/en-de.tsv data/train/en-de.tsv
    python names.py names/de-en.tsv data/train/en-de.tsv --reverse

Learners' sentences have a few names, thousands of times: a student of them answers with one of those where it reads
another. A name is a word with a capital that is the same on both sides and often stands within a sentence of the first
language, which must be one that writes no other words so (English); with `'s` and `s` it may be a possessive. It
becomes a name of phrasebook.py or one made up of syllables; a number in digits, one of as many digits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import corpus
import numpy as np
import phrasebook
import prepare

NAME = re.compile(r"(?<![\w'’-])[A-Z][a-z]+(?![\w-])")
NUMBER = re.compile(r"(?<![\w.,:/-])\d{1,4}(?![\w/-]|[.,:]\d)")
STARTS, VOWELS, ENDS = (
    re.split(" ", parts)
    for parts in (
        "b br d dr f fl g gr h j k kl kr l m n p r s sch st t tr v w z",
        "a e i o u a e i o u au ei ie ö ü",
        "      l n r m nd rt ck ll ng tz",  # mostly none
    )
)
OFTEN = 5  # within sentences, for a word with a capital to be a name


def names(sentences: list[str]) -> frozenset[str]:
    found = Counter(match[0] for text in sentences for match in NAME.finditer(text) if match.start())
    dates = {name for words in phrasebook.DATES.values() for name in words["en"].split()}
    return frozenset(name for name, count in found.items() if count >= OFTEN) - dates


def known_names() -> list[str]:
    return [name for slot in ("surname", "she", "he") for name in phrasebook.ALIKE[slot] if not name.endswith("s")]


class Inventor:
    """Names and numbers, drawn at random."""

    def __init__(self, seed: int) -> None:
        self._rng, self._known = np.random.default_rng(seed), known_names()

    def _one(self, words: list[str]) -> str:
        return words[self._rng.integers(len(words))]

    def name(self, old: str) -> str:
        if self._rng.random() < 0.5:
            return self._one(self._known)
        return "".join(self._one(part) for _ in range(2) for part in (STARTS, VOWELS, ENDS)).capitalize()

    def number(self, old: str) -> str:
        return str(self._rng.integers(2 if len(old) == 1 else 10 ** (len(old) - 1), 10 ** len(old)))


def exchanged(
    pair: corpus.Pair, pattern: re.Pattern[str], new: Callable[[str], str], known: Callable[[str], bool]
) -> corpus.Pair:
    """The pair with each word of a pattern that occurs once on each side replaced by a new one."""
    source, target = pair
    for word, count in Counter(pattern.findall(source)).items():
        sides = [re.compile(rf"(?<!\w){word}(?=(?:{end})?(?!\w))") for end in ("['’]s", "s")]
        if count == 1 and known(word) and len(sides[1].findall(target)) == 1 == len(sides[0].findall(source)):
            fresh = new(word)
            source, target = sides[0].sub(fresh, source), sides[1].sub(fresh, target)
    return source, target


def made(pairs: list[corpus.Pair], seed: int) -> Iterator[corpus.Pair]:
    known, inventor = names([source for source, _ in pairs]), Inventor(seed)
    for pair in pairs:
        found = exchanged(pair, NAME, inventor.name, known.__contains__)
        found = exchanged(found, NUMBER, inventor.number, lambda _: True)
        if found != pair:
            yield found


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@prepare.kept_out_option
@click.option("--reverse", is_flag=True, help="Write (second, first) instead of (first, second).")
@click.option("--seed", default=0, show_default=True)
def main(out: Path, data: Path, kept_out: Path, reverse: bool, seed: int) -> None:
    pairs, held_out = list(corpus.read(data)), prepare.held_out(kept_out)
    kept = [pair for pair in made(pairs, seed) if not any(corpus.key(side) in held_out for side in pair)]
    kept = [pair[::-1] for pair in kept] if reverse else kept
    click.echo(f"{out}: {corpus.write(out, kept):,} of {len(pairs):,} pairs, with other names and numbers")


if __name__ == "__main__":
    main()
