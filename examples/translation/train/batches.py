"""Sentence pairs as token ids, and batches of about equal lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

BOS, EOS = 1, 2
Example = tuple[list[int], list[int]]  # the prompt, and the answer with its end


@dataclass(frozen=True)
class Direction:
    """Pairs to learn in one direction, as many times as `weight` says in each epoch."""

    pairs: list[corpus.Pair]
    target: str
    weight: int = 1


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


def examples(tokens: Tokenizer, directions: list[Direction], segment_dropout: float = 0.0) -> list[Example]:
    """Examples of one epoch.

    `segment_dropout` is the share of merges that are left out at random, so that a word is seen in many segmentations:
    BPE-dropout (Provilkov et al. 2020, https://aclanthology.org/2020.acl-main.170).
    """
    tokens.model.dropout = segment_dropout or None
    out: list[Example] = []
    for found in directions:
        sources, targets = zip(*found.pairs, strict=True)
        for _ in range(found.weight):
            answers = ([*ids, EOS] for ids in encode(tokens, list(targets)))
            out += zip(prompts(tokens, found.target, list(sources)), answers, strict=True)
    tokens.model.dropout = None
    return out


def batches(found: list[Example], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of examples, `size` tokens with padding in each batch, of about equal lengths, in random order."""
    lengths = np.array([len(prompt) + len(answer) for prompt, answer in found])
    order = np.argsort(lengths + rng.random(len(lengths)))
    out, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= size:
            end += 1
        out.append(order[start:end])
        start = end
    rng.shuffle(out)
    return out


def collate(found: list[Example], indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
    """ids (rows, tokens), padded with 0 at the end, and the flat positions whose next token is part of an answer."""
    rows = [found[index] for index in indices]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, asked = np.zeros((len(rows), width), np.int64), []
    for row, (prompt, answer) in enumerate(rows):
        total = len(prompt) + len(answer)
        ids[row, :total] = prompt + answer
        asked.append(row * width + np.arange(len(prompt) - 1, total - 1))
    return torch.from_numpy(ids), torch.from_numpy(np.concatenate(asked))


def stream(found: list[Example], order: list[np.ndarray], device: str) -> Iterator[tuple[Tensor, Tensor]]:
    for indices in order:
        ids, asked = collate(found, indices)
        yield ids.to(device), asked.to(device)
