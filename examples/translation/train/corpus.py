"""Sentence pairs in files named SOURCE-TARGET.tsv: a sentence and its translation on each line, a tab between them."""

from __future__ import annotations

import lzma
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

Pair = tuple[str, str]


def read(path: Path) -> Iterator[Pair]:
    """The pairs of a file (.xz: packed); further columns are left out."""
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            columns = line.rstrip("\n").split("\t")
            if len(columns) < 2:
                raise ValueError(
                    f"{path}, line {number}: expected a sentence, a tab and its translation, found {line[:80]!r}"
                )
            yield columns[0], columns[1]


def write(path: Path, pairs: Iterable[Pair]) -> int:
    """Writes pairs beside `path` and renames them into place; returns how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    count = 0
    with os.fdopen(handle, "w", encoding="utf-8") as lines:
        for source, target in pairs:
            lines.write(f"{source}\t{target}\n")
            count += 1
    Path(name).replace(path)
    return count


def direction(path: Path) -> tuple[str, str]:
    """The languages that a file's name tells: `en-de.tsv` is from English to German."""
    source, dash, target = path.name.split(".")[0].rpartition("-")
    if not (dash and source and target):
        raise ValueError(f"{path}: expected a name like en-de.tsv, which tells the languages")
    return source, target


def clean(text: str) -> str:
    """Composed characters (NFC), each run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def key(text: str) -> str:
    """What two sentences share if only case, punctuation, accents' encoding or spaces tell them apart."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())
