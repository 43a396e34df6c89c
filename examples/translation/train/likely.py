"""What a teacher thinks of each token of the answers that a student learns, asked once before the training.

A student then learns from the teacher without running it in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import batches
import network
import numpy as np
import torch

KEPT = 8  # tokens


@dataclass(frozen=True)
class Likely:
    """The ids and probabilities (tokens, KEPT) of the likeliest tokens in the place of each token of all answers, and
    where those of each pair begin."""

    ids: np.ndarray[tuple[int, int], np.dtype[np.uint16]]
    shares: np.ndarray[tuple[int, int], np.dtype[np.float16]]
    first: batches.Numbers

    def of(self, pairs: Sequence[int], lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, probabilities) of the answers of pairs, one after another."""
        starts = self.first[pairs]
        rows = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        return torch.from_numpy(self.ids[rows].astype(np.int64)), torch.from_numpy(self.shares[rows].astype(np.float32))


@torch.no_grad()
def ask(
    teacher: network.Decoder, vocabulary: Path, directions: Sequence[batches.Direction], size: int, loaders: int
) -> Likely:
    """Asks a teacher about the answers of all pairs, in batches of `size` tokens."""
    device = teacher.embed_tokens.weight.device.type
    once = [batches.Direction(found.pairs, found.target) for found in directions]
    first = np.zeros(sum(len(found.pairs) for found in once), np.int64)
    ids, shares, total = [], [], 0
    order = batches.Epochs(vocabulary, once, size, batches.Cutting(), [0], epochs=1)
    for batch in batches.stream(order, loaders, device):
        found = teacher.answers(batch).float().softmax(-1).topk(KEPT)
        lengths = np.bincount(batch.asked.cpu().numpy() // batch.ids.shape[1], minlength=len(batch.ids))
        first[batch.pairs.numpy()] = total + np.cumsum(lengths) - lengths
        total += int(lengths.sum())
        ids.append(found.indices.cpu().numpy().astype(np.uint16))
        shares.append(found.values.cpu().numpy().astype(np.float16))
    return Likely(np.concatenate(ids), np.concatenate(shares), first)
