"""Finds the sentences, headings and buttons that programs have in two languages: what a corpus of sentences lacks.

\b
    pip download --no-deps homeassistant home-assistant-frontend django jupyterlab-language-pack-de-DE
    npm pack cldr-annotations-full cldr-localenames-full cldr-units-full matrix-react-sdk@3.100.0
    python interfaces.py interfaces/en-de.tsv UNPACKED …

goes through the folders for translation files: JSON that is named for its language (`de.json`) or lies in a folder
that is (`de/annotations.json`), beside one of the same keys in the other language; gettext (`de/…/*.po`), whose keys
are English, and JSON made of it. Texts with placeholders or markup are left out, those of several sentences are cut
into them where both sides have as many, and of the translations of a text the most frequent one is taken. A part goes
into interfaces/en-de.apart.tsv instead, to compare models with.

Look at the licences, and credit what the weights learned from.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import corpus
import prepare

LONGEST = 240  # characters of a sentence
ENDS = ".!?:;…"
_MARKUP = re.compile(r"[{}<>\[\]%$|\\_#*`@=~^↑←→]|https?:|\w\.\w|\w/\w|^[^A-Za-zÄÖÜäöüß]*$|\n")
_BETWEEN = re.compile(r"(?<=[.!?]) (?=[A-ZÄÖÜ0-9])")
_LETTERS = re.compile(r"[^\W\d_]+")


def texts(tree: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """All strings of a JSON tree and where each stands."""
    if isinstance(tree, str):
        yield at, tree
    elif isinstance(tree, dict):
        for name, below in tree.items():
            yield from texts(below, (*at, name))
    elif isinstance(tree, list) and len(tree) == 1:  # the items of longer ones need not be in the same order
        yield from texts(tree[0], at)


def other(path: Path, language: str, wanted: str) -> Path | None:
    """The file beside `path` that has its texts in the wanted language."""
    names = re.compile(rf"{language}(?:[-_][A-Z]{{2}})?(\.json|-[0-9a-f]+\.json)")
    if (found := names.fullmatch(path.name)) is not None:
        tail = path.name[len(language) :]
        places = [wanted + tail, f"{wanted}.json", f"{wanted}_{wanted.upper()}.json"]
        beside = [path.with_name(name) for name in places]
        beside += sorted(path.parent.glob(f"{wanted}-*.json")) if found[1] != ".json" else []
        return next((place for place in beside if place.exists()), None)
    if path.parent.name == language:
        place = path.parent.parent / wanted / path.name
        return place if place.exists() else None
    return None


def from_json(path: Path, source: str, target: str) -> Iterator[corpus.Pair]:
    tree = json.loads(path.read_text(encoding="utf-8"))
    if (place := other(path, target, source)) is not None:
        known = dict(texts(json.loads(place.read_text(encoding="utf-8"))))
        named = {tuple(target if name == source else name for name in at): text for at, text in known.items()}
        yield from ((named[at], text) for at, text in texts(tree) if at in named)
    elif source == "en" and isinstance(tree, dict) and "" in tree:  # made of gettext: English, [translation]
        single = ((key.split("\x04")[-1], made) for key, made in tree.items() if key and isinstance(made, list))
        yield from ((text, str(made[0])) for text, made in single if len(made) == 1)


def from_gettext(path: Path, source: str) -> Iterator[corpus.Pair]:
    if source != "en":
        return
    from babel.messages.pofile import read_po  # pip install babel

    with path.open("rb") as file:
        for message in read_po(file):
            if isinstance(message.id, str) and message.id and not message.fuzzy:
                yield message.id, str(message.string)


def sentences(pair: corpus.Pair) -> Iterator[corpus.Pair]:
    """The sentences of both sides, if they are as many and look like text, with an end as `edgeslm translate` asks."""
    sides = [_BETWEEN.split(corpus.clean(side)) for side in pair]
    if len(sides[0]) != len(sides[1]):
        return
    for source, target in zip(*sides, strict=True):
        if any(_MARKUP.search(side) or not 1 < len(side) <= LONGEST for side in (source, target)):
            continue
        if 0.4 < len(source) / len(target) < 2.5 or len(source) < 12:
            yield (source, target) if source[-1] in ENDS else (source + ".", target.rstrip(ENDS) + ".")


def found(folder: Path, source: str, target: str) -> Iterator[corpus.Pair]:
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json" and re.search(rf"(^|/){target}([-_./]|$)", str(path.relative_to(folder))):
            yield from from_json(path, source, target)
        elif path.suffix == ".po" and f"/{target}/" in str(path):
            yield from from_gettext(path, source)


def chosen(pairs: Iterable[corpus.Pair]) -> list[corpus.Pair]:
    """The most frequent translation of each text; of those that stay as they are, names alone."""
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for source, target in pairs:
        known[source][target] += 1
    best = [(source, counts.most_common(1)[0][0]) for source, counts in known.items()]
    return [pair for pair in best if pair[0] != pair[1] or len(_LETTERS.findall(pair[0])) == 1]


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--kept-out",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, exists=True),
    help="What prepare.py made: dev and test sentences are left out.",
)
@click.option("--apart", default=30, show_default=True, help="One text of so many goes into the file to compare with.")
def main(out: Path, folders: tuple[Path, ...], kept_out: Path, apart: int) -> None:
    source, target = corpus.direction(out)
    known = prepare.held_out(kept_out)
    pairs = []
    for folder in folders:
        new = [pair for text in found(folder, source, target) for pair in sentences(text)]
        click.echo(f"{folder}: {len(new):,}")
        pairs += new
    clean = [pair for pair in chosen(pairs) if not any(corpus.key(side) in known for side in pair)]
    aside = set(sorted(clean, key=lambda pair: corpus.key(pair[0]))[::apart])
    compare = out.with_name(f"{out.stem}.apart.tsv")
    count = corpus.write(compare, (pair for pair in clean if pair in aside))
    click.echo(
        f"{out}: {corpus.write(out, (pair for pair in clean if pair not in aside)):,} pairs; {compare}: {count:,}"
    )


if __name__ == "__main__":
    main()
