"""Processes that train one model together, each on its share of the pairs, as torchrun starts them.

On a processor, two of one thread each are faster than one of two threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as group
from torch import Tensor

T = TypeVar("T")


def begin() -> None:
    """Joins the other workers, if torchrun has started some."""
    if "WORLD_SIZE" in os.environ:
        group.init_process_group("gloo")


def count() -> int:
    return group.get_world_size() if group.is_initialized() else 1


def rank() -> int:
    return group.get_rank() if group.is_initialized() else 0


def share(things: Sequence[T]) -> list[T]:
    return list(things[rank() :: count()])


def total(number: int) -> int:
    """The sum of all workers' numbers."""
    if count() == 1:
        return number
    found = torch.tensor(number)
    group.all_reduce(found)
    return int(found)


def average(gradients: Iterable[Tensor | None]) -> None:
    """Makes each gradient the mean of all workers'."""
    if count() == 1:
        return
    found = [gradient for gradient in gradients if gradient is not None]
    flat = torch.cat([gradient.flatten() for gradient in found])
    group.all_reduce(flat)
    for gradient, mean in zip(found, flat.div_(count()).split([g.numel() for g in found]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def gather(things: list[T]) -> list[T]:
    """The things of all workers."""
    if count() == 1:
        return things
    found: list[list[T]] = [[]] * count()
    group.all_gather_object(found, things)
    return [thing for one in found for thing in one]


def wait() -> None:
    """Until all workers are here."""
    if count() > 1:
        group.barrier()
