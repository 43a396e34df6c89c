"""Muon: momentum of which each step is made orthogonal, which learns more from a batch than AdamW does.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; its steps have the size of AdamW's (Liu et al. 2025,
https://arxiv.org/abs/2502.16982), so that both take the same learning rate. Unlike PyTorch's, it moves all matrices of
a shape at once: a small model has many small ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

FACTORS = (3.4445, -4.7750, 2.0315)  # of the iteration that Jordan et al. found
ROUNDS = 5
AS_ADAMW = 0.2  # of an element of a step, by its root mean square


class Muon(torch.optim.Optimizer):
    """Of matrices alone; `decay` as in AdamW."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, decay: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, matrices in shapes.items():
                size = group["lr"] * AS_ADAMW * max(shape) ** 0.5
                steps = list(orthogonal(self._momentum(matrices, group["momentum"])).to(matrices[0].dtype) * size)
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(matrices, steps)

    def _momentum(self, matrices: list[Tensor], share: float) -> Tensor:
        """The gradients with Nesterov's momentum, stacked."""
        for p in matrices:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        kept = [self.state[p]["momentum"] for p in matrices]
        gradients = [p.grad for p in matrices]
        torch._foreach_lerp_(kept, gradients, 1 - share)
        return torch.stack(torch._foreach_lerp(gradients, kept, share))


def orthogonal(x: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with the same singular vectors and about equal singular values, in bfloat16."""
    a, b, c = FACTORS
    tall = x.shape[1] > x.shape[2]
    x = x.to(torch.bfloat16)
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x
