"""Beam search for many sentences at once, with one or several teachers whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import batches
import network
import torch
import weighing
from torch import Tensor
from weighing import Line

AT_ONCE = {"cpu": 8192, "cuda": 131072}  # tokens of prompts, for each line
SMALLER = 0.7  # a batch is made smaller when this share of it is left


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Tensor, Tensor]:
    """ids (rows, width), padded with 0 at the end, and the rows' lengths."""
    lengths = torch.tensor([len(found) for found in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for row, found in enumerate(rows):
        ids[row, : len(found)] = torch.tensor(found)
    return ids.to(device), lengths.to(device)


class Beams:
    """The lines of a batch of sentences: `width` of each, row after row."""

    def __init__(self, models: Sequence[network.Decoder], prompts: Sequence[Sequence[int]], width: int) -> None:
        self.models, self.width = models, width
        self.device = models[0].embed_tokens.weight.device
        ids, lengths = padded(prompts, str(self.device))
        self.sentences = torch.arange(len(prompts), device=self.device)
        self.longest = 2 * lengths + 10
        self.next = lengths.repeat_interleave(width)
        self.seen = (torch.arange(ids.shape[1], device=self.device) < lengths[:, None])[:, None, None]
        self.pasts: list[list[network.Past]] = []
        total = torch.zeros((), device=self.device)
        for model in models:
            states, kept = model(ids, mask=model.mask(lengths, ids.shape[1]))
            total = total + model.logits(states[self.sentences, lengths - 1]).float().log_softmax(-1)
            self.pasts.append([network.Past(pair, None, width) for pair in kept])
        self.totals, chosen = (total / len(models)).topk(width, 1)
        self.answers = chosen.reshape(-1, 1)

    def ended(self) -> Tensor:
        """Of each line (sentences, width), whether it needs no further tokens."""
        full = self.answers.shape[1] >= self.longest
        return (self.answers == batches.EOS).any(1).unflatten(0, (-1, self.width)) | full[:, None]

    def step(self, ended: Tensor) -> None:
        """Goes one token on. A line that has `ended` gets no further ones."""
        total = torch.zeros((), device=self.device)
        for index, model in enumerate(self.models):
            states, kept = model(self.answers[:, -1:], self.next[:, None], self.seen, self.pasts[index])
            self.pasts[index] = [
                network.Past(past.prompt, own, self.width) for past, own in zip(self.pasts[index], kept, strict=True)
            ]
            total = total + model.logits(states[:, -1]).float().log_softmax(-1)
        scores, found = (total / len(self.models)).topk(self.width, 1)
        stop, first = ended.flatten()[:, None], torch.arange(self.width, device=self.device) == 0
        scores = torch.where(stop, torch.where(first, 0.0, -torch.inf), scores)
        found = torch.where(stop, 0, found)
        lines = (self.totals.reshape(-1, 1) + scores).unflatten(0, (-1, self.width)).flatten(1)
        self.totals, flat = lines.topk(self.width, 1)
        begin = torch.arange(len(lines), device=self.device)[:, None] * self.width
        rows = (flat // self.width + begin).flatten()
        self.next = self.next + 1
        self._take_lines(rows)
        self.answers = torch.cat((self.answers[rows], found.flatten()[(begin * self.width + flat).flatten(), None]), 1)

    def _take_lines(self, rows: Tensor) -> None:
        for layers in self.pasts:
            for index, past in enumerate(layers):
                own = past.own and (past.own[0][rows], past.own[1][rows])
                layers[index] = network.Past(past.prompt, own, self.width)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these sentences alone."""
        lines = (rows[:, None] * self.width + torch.arange(self.width, device=self.device)).flatten()
        self._take_lines(lines)
        for layers in self.pasts:
            for index, past in enumerate(layers):
                layers[index] = network.Past((past.prompt[0][rows], past.prompt[1][rows]), past.own, self.width)
        self.sentences, self.longest, self.seen = self.sentences[rows], self.longest[rows], self.seen[rows]
        self.totals, self.next, self.answers = self.totals[rows], self.next[lines], self.answers[lines]

    def lines(self, rows: Tensor, penalty: float) -> Iterator[tuple[int, list[Line]]]:
        """(sentence, its lines, the best first) of these rows."""
        answers = self.answers.unflatten(0, (-1, self.width))[rows]
        ends = answers.eq(batches.EOS).int()
        lengths = (ends.cumsum(2) == ends).sum(2)  # its end counted, what follows not
        scores, order = (self.totals[rows] / lengths**penalty).sort(1, descending=True)
        answers = answers.gather(1, order[..., None].expand_as(answers)).tolist()
        for sentence, texts, found in zip(self.sentences[rows].tolist(), answers, scores.tolist(), strict=True):
            yield sentence, [Line(until_end(ids), score) for ids, score in zip(texts, found, strict=True)]


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(batches.EOS)] if batches.EOS in ids else ids


@torch.no_grad()
def search(
    models: Sequence[network.Decoder], prompts: Sequence[Sequence[int]], width: int = 4, penalty: float = 1.0
) -> list[list[Line]]:
    """The answers to each prompt, the best first.

    It is the one with the highest log probability over length to the power of `penalty`; at most twice as long as its
    prompt and 10 tokens.
    """
    beams, found = Beams(models, prompts, width), dict[int, list[Line]]()
    while True:
        ended = beams.ended()
        left = ~ended.all(1)
        count = int(left.sum())
        if count <= SMALLER * len(left):
            found |= beams.lines(torch.where(~left)[0], penalty)
            if not count:
                return [found[index] for index in range(len(prompts))]
            beams.keep(torch.where(left)[0])
            ended = ended[left]
        beams.step(ended)


def translate(
    models: Sequence[network.Decoder],
    tokens: batches.Tokenizer,
    target: str,
    texts: list[str],
    width: int,
    back: str | None = None,
) -> Iterator[tuple[int, str]]:
    """(index, translation) of each text, the longest first. With `back`, the texts' language, answers are also weighed
    by what the way back says (weighing.py)."""
    found = batches.prompts(tokens, target, texts)
    order = sorted(range(len(texts)), key=lambda index: -len(found[index]))
    size = AT_ONCE[models[0].embed_tokens.weight.device.type]
    while order:
        count = max(1, size // (len(found[order[0]]) * width))
        now, order = order[:count], order[count:]
        lines = search(models, [found[i] for i in now], width)
        if back:
            lines = weighing.weighed(models, tokens, back, [texts[i] for i in now], lines)
        for index, answers in zip(now, lines, strict=True):
            yield index, tokens.decode(answers[0].ids).strip()
