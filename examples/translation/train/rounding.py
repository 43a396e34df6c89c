"""Training for int4: the weights that forward and backward see are those that a bundle will have.

Straight-through: the gradients at the rounded weights move the unrounded ones (Bengio et al. 2013,
https://arxiv.org/abs/1308.3432).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeslm.formats import FORMATS

REFRESH = 1000  # uses of scales, which take long to find and change slowly


class Rounding:
    """Rounds the matrices of a model's layers to int4 in groups of `group_size`, with the scales that the converter
    chooses; and its `embedding`, unless the bundle is to have it in int8."""

    def __init__(self, model: nn.Module, group_size: int, embedding: bool) -> None:
        matrices = [(name, p) for name, p in model.named_parameters() if p.ndim == 2]
        self._matrices = [p for name, p in matrices if embedding or name.startswith("layers.")]
        self._group, self._uses = group_size, 0
        self._scales: list[Tensor] = []

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Within it, the model has the rounded weights."""
        if self._uses % REFRESH == 0:
            self._scales = [self._found(p.data) for p in self._matrices]
        self._uses += 1
        kept = [p.data for p in self._matrices]
        for p, scales in zip(self._matrices, self._scales, strict=True):
            p.data = self._round(p.data, scales)
        try:
            yield
        finally:
            for p, data in zip(self._matrices, kept, strict=True):
                p.data = data

    def _found(self, weights: Tensor) -> Tensor:
        parts = FORMATS["q4"].encode(weights.float().cpu().numpy(), self._group)
        return torch.from_numpy(parts["scales"]).to(weights.device).unsqueeze(-1)

    def _round(self, weights: Tensor, scales: Tensor) -> Tensor:
        width = weights.shape[1]
        groups = functional.pad(weights, (0, -width % self._group)).unflatten(1, (-1, self._group))
        steps = torch.where(scales != 0, 1 / scales, 0)
        return ((groups * steps).round_().clamp_(-8, 7) * scales).flatten(1)[:, :width]
