"""Weighs a search's answers by what the way back says of them, as `edgeslm translate --rerank` does.

A model that has learned both directions finds the sentence in a good answer again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import batches
import network
import torch

BACK = 0.5  # weight of the way back, as in edgeslm/translation/weighing.py
AT_ONCE = {"cpu": 4096, "cuda": 65536}  # tokens


class Line(NamedTuple):
    """An answer without its end, and its log probability over length to the power of a penalty."""

    ids: list[int]
    score: float


def weighed(
    models: Sequence[network.Decoder],
    tokens: batches.Tokenizer,
    source: str,
    texts: Sequence[str],
    lines: Sequence[Sequence[Line]],
) -> list[list[Line]]:
    """The lines of each text in the order of their weighed scores."""
    answers = [tokens.decode(line.ids).strip() for found in lines for line in found]
    wanted = [[*ids, batches.EOS] for ids in batches.encode(tokens, list(texts))]
    wanted = [ids for ids, found in zip(wanted, lines, strict=True) for _ in found]
    asked = batches.prompts(tokens, source, answers)
    back = mean_log_probs(models, [batches.Example(*row) for row in zip(asked, wanted, range(len(asked)), strict=True)])
    scores = iter(back)
    out = [[line._replace(score=line.score + BACK * next(scores)) for line in found] for found in lines]
    return [sorted(found, key=lambda line: -line.score) for found in out]


@torch.no_grad()
def mean_log_probs(models: Sequence[network.Decoder], rows: list[batches.Example]) -> list[float]:
    """Of each row's answer, the mean of its tokens' log probabilities; of several models, the mean."""
    device, out = models[0].embed_tokens.weight.device.type, torch.zeros(len(rows))
    rows = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
    while rows:
        width = len(rows[-1].prompt) + len(rows[-1].answer)
        count = max(1, AT_ONCE[device] // width)
        now, rows = rows[-count:], rows[:-count]
        batch = batches.collate(now).to(device)
        wanted = batch.ids.flatten()[batch.asked + 1, None]
        total = sum(model.answers(batch).float().log_softmax(-1).gather(1, wanted)[:, 0] for model in models)
        of_rows = torch.zeros(len(now), device=device).index_add_(0, batch.asked // batch.ids.shape[1], total)
        lengths = torch.tensor([len(row.answer) for row in now])
        out[batch.pairs] = of_rows.cpu() / lengths / len(models)
    return out.tolist()
