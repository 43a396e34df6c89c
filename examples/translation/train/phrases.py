"""Finds the phrases that parallel sentences are made of, as pairs to train on: "in the garden", "im Garten".

\b
    python phrases.py phrases/en-de.tsv data/train/en-de.tsv

Who has seen sentences alone makes a sentence of everything: of the heading "New shoes" it made "Make new shoes". Words
are aligned by IBM Model 1 with a preference for the diagonal, in both directions (Dyer et al. 2013,
https://aclanthology.org/N13-1073), and phrases taken where both agree (Koehn et al. 2003,
https://aclanthology.org/N03-1017). A phrase is kept if it was seen several times and mostly translated one way. Half
of the pairs begin with capitals, as headings do; all end with a full stop, as `edgeslm translate` asks. The source must
be English: the lists of words below are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import corpus
import numpy as np
import numpy.typing as npt
import prepare
from rich.progress import track

Words = list[str]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WORD = re.compile(r"\w+(?:['’-]\w+)*")
TENSION, ITERATIONS = 4.0, 6
LONGEST = 6  # words
# A phrase with one of these is a piece of a clause, which other languages order in another way.
CLAUSES = """
    i you he she it we they who whom whose which that what there this these those when where why because if
    is are was were be been being am has have had do does did will would can could shall should must may might let not
"""
CLAUSAL = frozenset(CLAUSES.split())
DETERMINERS = frozenset(
    ["a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "no", "this", "that", "these", "those"]
)
COPULAS = frozenset(["is", "are", "was", "were"])
COMMON = 60  # the most frequent words of a language do not end a phrase: "in the"
SUBJECT = 5  # a phrase that begins a sentence, or follows a copula, is likelier in the nominative, as headings are


def truecased(sentences: list[Words]) -> list[Words]:
    """The first word of each sentence as it is mostly written within sentences."""
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words in sentences:
        for word in words[1:]:
            forms[word.lower()][word] += 1
    best = {word: found.most_common(1)[0][0] for word, found in forms.items()}
    return [[best.get(words[0].lower(), words[0]), *words[1:]] if words else words for words in sentences]


def numbered(sentences: list[Words]) -> list[list[int]]:
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(word.lower(), len(numbers)) for word in words] for words in sentences]


@dataclass
class Cells:
    """All (source word, target word) within all sentence pairs."""

    pair: Ints
    source_at: Ints
    target_at: Ints
    source: Ints
    target: Ints
    nearness: Floats  # to the diagonal

    @staticmethod
    def of(sources: list[list[int]], targets: list[list[int]]) -> Cells:
        rows = []
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            i, j = np.divmod(np.arange(len(source) * len(target)), max(1, len(target)))
            rows.append(
                np.stack([np.full(len(i), number), i, j, np.take(source, i), np.take(target, j)]).astype(np.int64)
            )
        pair, i, j, source_ids, target_ids = np.concatenate(rows, axis=1)
        lengths = [np.array([len(ids) for ids in side], np.float64)[pair] for side in (sources, targets)]
        apart = np.abs((i + 0.5) / lengths[0] - (j + 0.5) / lengths[1])
        return Cells(pair, i, j, source_ids, target_ids, np.exp(-TENSION * apart))

    def turned(self) -> Cells:
        return Cells(self.pair, self.target_at, self.source_at, self.target, self.source, self.nearness)

    def links(self) -> npt.NDArray[np.bool_]:
        """For each target word the cell of the source word that it most likely comes from."""
        _, entry = np.unique(self.source << 32 | self.target, return_inverse=True)
        _, place = np.unique(self.pair << 16 | self.target_at, return_inverse=True)
        of_entry = np.zeros(entry.max() + 1, np.int64)
        of_entry[entry] = self.source
        table = np.ones(len(of_entry))
        for _ in range(ITERATIONS):
            score = table[entry] * self.nearness
            score /= np.bincount(place, score)[place]
            table = np.bincount(entry, score)
            table /= np.bincount(of_entry, table)[of_entry]
        score = table[entry] * self.nearness
        best = np.zeros(place.max() + 1)
        np.maximum.at(best, place, score)
        return score == best[place]


def aligned(sources: list[Words], targets: list[Words]) -> list[list[tuple[int, int]]]:
    """The places of words of each pair that both directions link."""
    cells = Cells.of(numbered(sources), numbered(targets))
    both = cells.links() & cells.turned().links()
    links: list[list[tuple[int, int]]] = [[] for _ in sources]
    for pair, i, j in zip(cells.pair[both], cells.source_at[both], cells.target_at[both], strict=True):
        links[pair].append((int(i), int(j)))
    return links


def phrases(source: Words, target: Words, links: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """First and last places, in both, of what is linked to nothing outside and linked at its edges."""
    to, back = dict(links), {j: i for i, j in links}
    for first in to:
        for last in range(first, min(first + LONGEST, len(source))):
            if last not in to:
                continue
            places = [to[i] for i in range(first, last + 1) if i in to]
            low, high = min(places), max(places)
            if all(first <= back.get(j, first) <= last for j in range(low, high + 1)) and high - low < LONGEST + 2:
                yield first, last, low, high


def is_clausal(words: Words) -> bool:
    """Has it a word of those, or a contraction? "Tom's" is none."""
    stems = [word.lower().removesuffix("'s").removesuffix("’s") for word in words]
    return any(stem in CLAUSAL or "'" in stem or "’" in stem for stem in stems)


@dataclass
class Seen:
    """Of a pair of phrases: how often, and the same with more weight at the beginning of sentences."""

    count: int = 0
    weight: int = 0


def counted(sources: list[Words], targets: list[Words], links: list[list[tuple[int, int]]]) -> dict[corpus.Pair, Seen]:
    """Phrases that were seen as each other's translations."""
    common = [
        {word for word, _ in Counter(word.lower() for words in side for word in words).most_common(COMMON)}
        for side in (sources, targets)
    ]
    found: defaultdict[corpus.Pair, Seen] = defaultdict(Seen)
    for source, target, link in track(
        zip(sources, targets, links, strict=True), "phrases", total=len(sources), transient=True
    ):
        for first, last, low, high in phrases(source, target, link):
            if source[last].lower() in common[0] or target[high].lower() in common[1]:
                continue
            if len(source) == last - first + 1 or is_clausal(source[first : last + 1]):
                continue
            before = source[first - 1].lower() if first else ""
            if before in DETERMINERS or before.endswith(("'s", "’s")):  # it is the rest of a longer phrase
                continue
            seen = found[" ".join(source[first : last + 1]), " ".join(target[low : high + 1])]
            seen.count += 1
            seen.weight += SUBJECT if first == low == 0 or before in COPULAS else 1
    return found


def decided(found: dict[corpus.Pair, Seen], least: int, share: float) -> list[corpus.Pair]:
    """The weightiest translation of each phrase, if it was seen often enough and has that share of all weight."""
    by_source: defaultdict[str, dict[str, Seen]] = defaultdict(dict)
    for (source, target), seen in found.items():
        by_source[source][target] = seen
    pairs = []
    for source, targets in by_source.items():
        target, seen = max(targets.items(), key=lambda item: item[1].weight)
        if seen.count >= least and seen.weight >= share * sum(other.weight for other in targets.values()):
            pairs.append((source, target))
    return pairs


def as_asked(text: str, capital: bool) -> str:
    return f"{text[:1].upper() + text[1:] if capital else text}."


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@prepare.kept_out_option
@click.option("--least", default=2, show_default=True, help="How often a phrase must have been seen.")
@click.option("--share", default=0.35, show_default=True, help="Of its occurrences that must be translated alike.")
def main(out: Path, data: Path, kept_out: Path, least: int, share: float) -> None:
    texts = list(zip(*corpus.read(data), strict=True))
    sources, targets = (truecased([WORD.findall(text) for text in side]) for side in texts)
    pairs = decided(counted(sources, targets, aligned(sources, targets)), least, share)
    known = prepare.held_out(kept_out)
    kept = [pair for pair in pairs if not any(corpus.key(side) in known for side in pair)]
    capitals = np.random.default_rng(0).random(len(kept)) < 0.5
    made = ((as_asked(s, c), as_asked(t, c)) for (s, t), c in zip(kept, capitals.tolist(), strict=True))
    click.echo(f"{out}: {corpus.write(out, made):,} of {len(pairs):,}; the others are dev or test sentences")


if __name__ == "__main__":
    main()
