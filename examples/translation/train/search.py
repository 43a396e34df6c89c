"""Beam search for many sentences at once, with one or several teachers whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import batches
import network
import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Tensor, Tensor]:
    """ids (rows, width) with padding at the left, and True where there is none."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for row, found in enumerate(rows):
        ids[row, width - len(found) :] = torch.tensor(found)
    lengths = torch.tensor([len(found) for found in rows])
    return ids.to(device), (torch.arange(width) >= width - lengths[:, None]).to(device)


class Beams:
    """The lines of a batch of sentences: `width` of each, row after row."""

    def __init__(self, models: Sequence[network.Decoder], prompts: Sequence[Sequence[int]], width: int) -> None:
        self.models, self.count, self.width = models, len(prompts), width
        self.device = str(models[0].embed_tokens.weight.device)
        ids, real = padded(prompts, self.device)
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=self.device).tril()
        own = torch.eye(
            ids.shape[1], dtype=torch.bool, device=self.device
        )  # padding looks at itself: no row without any
        self.seen, self.next = real, real.sum(1)
        self.past: list[network.Cache] = []
        first = self._scores(ids, (real.cumsum(1) - 1).clamp(min=0), (causal & real[:, None, :] | own)[:, None])
        self._spread()
        self.totals, chosen = first.topk(width, 1)
        self.answers = chosen.reshape(-1, 1)

    def _scores(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Log probabilities (rows, vocabulary) of what follows, the models' mean."""
        total, kept = None, []
        for index, model in enumerate(self.models):
            states, cache = model(ids, positions, mask, self.past[index] if self.past else None)
            found = model.logits(states[:, -1]).float().log_softmax(-1)
            total = found if total is None else total + found
            kept.append(cache)
        self.past = kept
        assert total is not None
        return total / len(self.models)

    def _take(self, rows: Tensor) -> None:
        self.past = [[(k[rows], v[rows]) for k, v in cache] for cache in self.past]
        self.seen, self.next = self.seen[rows], self.next[rows]

    def _spread(self) -> None:
        self._take(torch.arange(self.count, device=self.device).repeat_interleave(self.width))

    def step(self, ended: Tensor) -> None:
        """Goes one token on. A line that has `ended` gets no further ones."""
        self.seen = torch.cat((self.seen, torch.ones_like(self.seen[:, :1])), 1)
        scores = self._scores(self.answers[:, -1:], self.next[:, None], self.seen[:, None, None, :])
        self.next = self.next + 1
        scores[ended] = -torch.inf
        scores[ended, 0] = 0.0
        lines = self.totals.reshape(-1, 1) + scores
        self.totals, flat = lines.reshape(self.count, -1).topk(self.width, 1)
        size = scores.shape[1]
        rows = (flat // size + torch.arange(self.count, device=self.device)[:, None] * self.width).flatten()
        self._take(rows)
        self.answers = torch.cat((self.answers[rows], (flat % size).reshape(-1, 1)), 1)


@torch.no_grad()
def search(
    models: Sequence[network.Decoder], prompts: Sequence[Sequence[int]], width: int = 4, penalty: float = 1.0
) -> list[list[int]]:
    """The best answer to each prompt, without its end.

    It is the one with the highest log probability over length to the power of `penalty`; at most twice as long as its
    prompt and 10 tokens.
    """
    beams = Beams(models, prompts, width)
    longest = torch.tensor([2 * len(prompt) + 10 for prompt in prompts], device=beams.device).repeat_interleave(width)
    for _ in range(int(longest.max())):
        ended = (beams.answers == batches.EOS).any(1) | (beams.answers.shape[1] >= longest)
        if bool(ended.all()):
            break
        beams.step(ended)
    ends = beams.answers.eq(batches.EOS).int()
    lengths = (ends.cumsum(1) == ends).sum(1)  # its end counted, what follows not
    best = (beams.totals / lengths.reshape(-1, width) ** penalty).argmax(1)
    lines = beams.answers.reshape(len(prompts), width, -1)[
        torch.arange(len(prompts), device=beams.device), best
    ].tolist()
    return [line[: line.index(batches.EOS)] if batches.EOS in line else line for line in lines]


def translate(
    models: Sequence[network.Decoder],
    tokens: batches.Tokenizer,
    target: str,
    texts: list[str],
    width: int,
    size: int = 8192,
) -> Iterator[tuple[int, str]]:
    """(index, translation) of each text, the longest first; `size` tokens of prompts and lines run at once."""
    found = batches.prompts(tokens, target, texts)
    order = sorted(range(len(texts)), key=lambda index: -len(found[index]))
    while order:
        count = max(1, size // (len(found[order[0]]) * width))
        now, order = order[:count], order[count:]
        for index, answer in zip(now, search(models, [found[i] for i in now], width), strict=True):
            yield index, tokens.decode(answer).strip()
