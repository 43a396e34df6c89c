"""A training run: its optimizer, its schedule, and what it keeps to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import batches
import network
import numpy as np
import rounding
import torch
import workers
from torch import Tensor

KEPT = ("seen", "epoch", "place", "seconds")


@dataclass(frozen=True)
class Settings:
    """tokens: in all, padding not counted; batch: tokens, padding counted; every: tokens between saves; int4: 0, or the
    group size to train for."""

    tokens: int
    batch: int
    every: int
    rate: float
    decay: float
    segment_dropout: float
    smoothing: float
    seed: int
    device: str
    int4: int


def adamw(model: network.Decoder, rate: float, decay: float) -> torch.optim.Optimizer:
    """Norms do not decay."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def rate_at(share: float) -> float:
    """The part of the highest learning rate at a share of the training: up for 2 % of it, then down along a cosine."""
    return min(share / 0.02, 0.5 + 0.5 * math.cos(math.pi * max(0.0, share - 0.02) / 0.98))


@torch.no_grad()
def loss_of(model: network.Decoder, tokens: batches.Tokenizer, path: Path, device: str) -> float:
    """Mean nats per token of a file of pairs, without smoothing."""
    found = batches.examples(tokens, batches.read([path]))
    total = count = 0.0
    for ids, asked in batches.stream(found, batches.batches(found, 4096, np.random.default_rng(0)), device):
        total += model.loss(ids, asked, 0.0).item() * len(asked)
        count += len(asked)
    return total / count


class Training:
    """A run in a folder, which gets a checkpoint, state.pt and log.jsonl; one that is there is gone on with."""

    def __init__(self, run: Path, model: network.Decoder, tokens: batches.Tokenizer, settings: Settings) -> None:
        self.run, self.tokens, self.settings = run, tokens, settings
        self.model = model.to(settings.device).train()
        self.optimizer = adamw(model, settings.rate, settings.decay)
        self.rounded = rounding.Rounding(model, settings.int4).rounded if settings.int4 else nullcontext
        self.seen = self.epoch = self.place = 0
        self.seconds = 0.0
        if (run / "state.pt").exists():
            self._resume()

    def losses(self, directions: list[batches.Direction], dev: list[Path]) -> Iterator[float]:
        """Trains to the end; yields each batch's loss."""
        settings, next_save = self.settings, (self.seen // self.settings.every + 1) * self.settings.every
        for ids, asked in self._batches(directions):
            began = time.monotonic()
            loss = self._step(ids, asked)
            self.seen += workers.total(int((ids != 0).sum()))
            self.place += 1
            self.seconds += time.monotonic() - began
            yield loss
            ended = self.seen >= settings.tokens
            if ended or self.seen >= next_save:
                next_save += settings.every
                self._log(loss, dev)
                self._save()
            if ended:
                return

    def _batches(self, directions: list[batches.Direction]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of epoch after epoch, from the place where the run stands; each worker has its share of the pairs."""
        directions = [replace(found, pairs=workers.share(found.pairs)) for found in directions]
        while self.seen < self.settings.tokens:
            found = batches.examples(self.tokens, directions, self.settings.segment_dropout)
            order = batches.batches(found, self.settings.batch, np.random.default_rng([self.settings.seed, self.epoch]))
            yield from batches.stream(found, order[self.place :], self.settings.device)
            self.epoch, self.place = self.epoch + 1, 0

    def _step(self, ids: Tensor, asked: Tensor) -> float:
        with self.rounded():
            with torch.autocast(self.settings.device, torch.bfloat16, enabled=self.settings.device == "cuda"):
                loss = self.model.loss(ids, asked, self.settings.smoothing)
            loss.backward()
        workers.average(p.grad for p in self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * rate_at(self.seen / self.settings.tokens)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _log(self, loss: float, dev: list[Path]) -> None:
        self.model.eval()
        with self.rounded():
            own = [
                (p.stem, round(loss_of(self.model, self.tokens, p, self.settings.device), 4))
                for p in workers.share(dev)
            ]
        found = dict(workers.gather(own))
        self.model.train()
        if workers.rank():
            return
        line = {"tokens": self.seen, "seconds": round(self.seconds), "loss": round(loss, 4), "dev": found}
        with (self.run / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        if workers.rank():
            return
        network.save(self.model, self.run)
        state = {name: getattr(self, name) for name in KEPT}
        state["model"], state["optimizer"] = self.model.state_dict(), self.optimizer.state_dict()
        state["random"] = torch.get_rng_state()
        torch.save(state, self.run / ".state.pt")
        (self.run / ".state.pt").replace(self.run / "state.pt")

    def _resume(self) -> None:
        state = torch.load(self.run / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if not workers.rank():
            torch.set_rng_state(state["random"])
        for name in KEPT:
            setattr(self, name, state[name])
