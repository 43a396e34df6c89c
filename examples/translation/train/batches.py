"""Sentence pairs as token ids, and batches of about equal lengths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import corpus
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

if TYPE_CHECKING:
    from likely import Likely

BOS, EOS = 1, 2
CHUNK = 32768  # examples, out of which batches of about equal lengths are made
Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Part = tuple[int, int]  # which of how many


class Example(NamedTuple):
    """The prompt, the answer with its end, and which of all pairs it is."""

    prompt: list[int]
    answer: list[int]
    pair: int = 0


class Batch(NamedTuple):
    """ids (rows, tokens), padded with 0 at the end; the flat positions whose next token is part of an answer; the
    prompts' lengths (rows); how many tokens there are, padding not counted; which pairs (rows) they are; of the tokens
    of answers, the ids and probabilities (answers, k) that a teacher finds likeliest."""

    ids: Tensor
    asked: Tensor
    prompts: Tensor
    tokens: int
    pairs: Tensor
    likely: tuple[Tensor, Tensor] | None = None

    def to(self, device: str) -> Batch:
        ids, asked, prompts = (part.to(device, non_blocking=True) for part in self[:3])
        likely = self.likely and tuple(part.to(device, non_blocking=True) for part in self.likely)
        return self._replace(ids=ids, asked=asked, prompts=prompts, likely=likely)


@dataclass(frozen=True)
class Direction:
    """Pairs to learn in one direction, as many times as `weight` says in each epoch."""

    pairs: list[corpus.Pair]
    target: str
    weight: int = 1


@dataclass(frozen=True)
class Cutting:
    """How words are cut: the shares of merges that are left out at random in sources and in targets, so that a word is
    seen in many segmentations: BPE-dropout (Provilkov et al. 2020, https://aclanthology.org/2020.acl-main.170)."""

    sources: float = 0.0
    targets: float = 0.0


def read(paths: Sequence[Path], weights: Sequence[int] = ()) -> list[Direction]:
    return [
        Direction(list(corpus.read(path)), corpus.direction(path)[1], weight)
        for path, weight in zip(paths, weights or [1] * len(paths), strict=True)
    ]


def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokens: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each text with the space that stands before a word."""
    return [found.ids for found in tokens.encode_batch([f" {text}" for text in texts], add_special_tokens=False)]


def prompts(tokens: Tokenizer, target: str, sources: list[str]) -> list[list[int]]:
    """`<s><2xx> source<sep>` of each source."""
    tag, end = tokens.token_to_id(f"<2{target}>"), tokens.token_to_id("<sep>")
    if tag is None:
        raise ValueError(f"the vocabulary has no tag <2{target}>")
    return [[BOS, tag, *ids, end] for ids in encode(tokens, sources)]


def examples(
    tokens: Tokenizer, found: Direction, cutting: Cutting, numbers: Iterable[int] | None = None
) -> list[Example]:
    """An example of each pair, whatever its weight; `numbers`: which of all pairs each is."""
    sources, targets = (list(side) for side in zip(*found.pairs, strict=True))
    tokens.model.dropout = cutting.sources or None
    asked = prompts(tokens, found.target, sources)
    tokens.model.dropout = cutting.targets or None
    answers = [[*ids, EOS] for ids in encode(tokens, targets)]
    tokens.model.dropout = None
    return [Example(*row) for row in zip(asked, answers, numbers or range(len(asked)), strict=True)]


def batches(found: list[Example], size: int, rng: np.random.Generator, likely: Likely | None = None) -> Iterator[Batch]:
    """Batches of `size` tokens, padding counted, of about equal lengths, in random order."""
    lengths = np.array([len(example.prompt) + len(example.answer) for example in found])
    order = np.argsort(lengths + rng.random(len(lengths)))
    out, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= size:
            end += 1
        out.append(order[start:end])
        start = end
    rng.shuffle(out)
    for indices in out:
        yield collate([found[index] for index in indices], likely)


def collate(rows: Sequence[Example], likely: Likely | None = None) -> Batch:
    width = max(len(row.prompt) + len(row.answer) for row in rows)
    ids, asked, tokens = np.zeros((len(rows), width), np.int64), [], 0
    for row, (prompt, answer, _) in enumerate(rows):
        total = len(prompt) + len(answer)
        ids[row, :total] = prompt + answer
        asked.append(row * width + np.arange(len(prompt) - 1, total - 1))
        tokens += total
    lengths, pairs = torch.tensor([len(row.prompt) for row in rows]), torch.tensor([row.pair for row in rows])
    given = likely and likely.of([row.pair for row in rows], [len(row.answer) for row in rows])
    return Batch(torch.from_numpy(ids), torch.from_numpy(np.concatenate(asked)), lengths, tokens, pairs, given)


class Epochs(IterableDataset[Batch]):
    """Batches of epoch after epoch, without end or so many; each worker, and each of its loaders, makes its share."""

    def __init__(
        self,
        vocabulary: Path,
        directions: list[Direction],
        size: int,
        cutting: Cutting,
        seed: list[int],
        part: Part = (0, 1),
        likely: Likely | None = None,
        epochs: int | None = None,
    ) -> None:
        self.vocabulary, self.directions, self.size, self.cutting = vocabulary, directions, size, cutting
        self.seed, self.part, self.likely, self.epochs = seed, part, likely, epochs

    def __iter__(self) -> Iterator[Batch]:
        tokens, loader = tokenizer(self.vocabulary), get_worker_info()
        index, of = self.part
        if loader:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            index, of = index * loader.num_workers + loader.id, of * loader.num_workers
        ways = np.repeat(
            np.arange(len(self.directions)), [len(found.pairs) * found.weight for found in self.directions]
        )
        places = np.concatenate([np.tile(np.arange(len(found.pairs)), found.weight) for found in self.directions])
        first = np.cumsum([0, *(len(found.pairs) for found in self.directions)])
        for epoch in count() if self.epochs is None else range(self.epochs):
            rng = np.random.default_rng([*self.seed, epoch])
            mine = rng.permutation(len(ways))[index::of]
            for chunk in np.array_split(mine, -(-len(mine) // CHUNK)):
                found: list[Example] = []
                for way, direction in enumerate(self.directions):
                    here = places[chunk[ways[chunk] == way]]
                    if len(here):
                        pairs = Direction([direction.pairs[place] for place in here], direction.target)
                        found += examples(tokens, pairs, self.cutting, (first[way] + here).tolist())
                yield from batches(found, self.size, rng, self.likely)


def stream(epochs: Epochs, loaders: int, device: str) -> Iterator[Batch]:
    """What epochs give, made by so many processes beside this one."""
    options = {"prefetch_factor": 8, "multiprocessing_context": "fork"} if loaders else {}
    for batch in DataLoader(epochs, batch_size=None, num_workers=loaders, pin_memory=device == "cuda", **options):
        yield batch.to(device)
