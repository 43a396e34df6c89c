"""A training run: its optimizer, its schedule, and what it keeps to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import batches
import muon
import network
import numpy as np
import rounding
import torch
import workers
from batches import Batch
from likely import Likely
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

KEPT = ("seen", "seconds")


@dataclass(frozen=True)
class Settings:
    """tokens: in all, padding not counted, or minutes; batch: tokens, padding counted; every: tokens between saves;
    muon: whether Muon moves the matrices; mean: how much of the weights' mean stays with each step, 0 for no mean;
    soft: the share of the teacher's probabilities in the loss; int4: 0, or the group size to train for, from the share
    `int4_from` of the training on, int4_embedding: the embedding, too; loaders: processes that make batches."""

    tokens: int | None
    minutes: float | None
    batch: int
    every: int
    rate: float
    decay: float
    muon: bool
    cutting: batches.Cutting
    smoothing: float
    mean: float
    soft: float
    int4: int
    int4_from: float
    int4_embedding: bool
    seed: int
    loaders: int
    device: str


def optimizers(model: network.Decoder, rate: float, decay: float, with_muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW, without decay of norms; Muon, if wanted, for the matrices of layers."""
    matrices = list(model.layers.parameters()) if with_muon else []
    matrices = [p for p in matrices if p.ndim == 2]
    theirs = {id(p) for p in matrices}
    others = [p for p in model.parameters() if p.ndim == 2 and id(p) not in theirs]
    norms = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": others, "weight_decay": decay}, {"params": norms, "weight_decay": 0.0}]
    first = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    return [first, muon.Muon(matrices, rate, decay)] if with_muon else [first]


def rate_at(share: float) -> float:
    """The part of the highest learning rate at a share of the training: up for 2 % of it, then down along a cosine."""
    return min(share / 0.02, 0.5 + 0.5 * math.cos(math.pi * max(0.0, share - 0.02) / 0.98))


@torch.no_grad()
def loss_of(model: network.Decoder, tokens: batches.Tokenizer, path: Path, size: int, device: str) -> float:
    """Mean nats per token of a file of pairs, without smoothing."""
    (way,) = batches.read([path])
    found = batches.examples(tokens, way, batches.Cutting())
    total = count = 0.0
    for batch in batches.batches(found, size, np.random.default_rng(0)):
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            total += model.loss(batch.to(device), 0.0).item() * len(batch.asked)
        count += len(batch.asked)
    return total / count


class Training:
    """A run in a folder, which gets a checkpoint, state.pt and log.jsonl; one that is there is gone on with."""

    def __init__(self, run: Path, model: network.Decoder, vocabulary: Path, settings: Settings) -> None:
        self.run, self.vocabulary, self.settings = run, vocabulary, settings
        self.model = model.to(settings.device).train()
        average = get_ema_multi_avg_fn(settings.mean)
        self.averaged = AveragedModel(self.model, multi_avg_fn=average) if settings.mean else None
        self.optimizers = optimizers(model, settings.rate, settings.decay, settings.muon)
        self.rounded = nullcontext
        self.seen = 0
        self.seconds = 0.0
        if (run / "state.pt").exists():
            self._resume()
        if settings.device == "cuda":
            self.model.compile_for_training()

    @property
    def share(self) -> float:
        """How much of the training is done."""
        if self.settings.minutes:
            return self.seconds / self.settings.minutes / 60
        return self.seen / (self.settings.tokens or 1)

    def losses(
        self, directions: list[batches.Direction], dev: list[Path], likely: Likely | None = None
    ) -> Iterator[torch.Tensor]:
        """Trains to the end; yields each batch's loss."""
        settings, next_save = self.settings, (self.seen // self.settings.every + 1) * self.settings.every
        part = workers.rank(), workers.count()
        seed = [settings.seed, self.seen]
        epochs = batches.Epochs(self.vocabulary, directions, settings.batch, settings.cutting, seed, part, likely)
        began, first = time.monotonic(), True
        for batch in batches.stream(epochs, settings.loaders, settings.device):
            loss = self._step(batch)
            self.seen += workers.total(batch.tokens)
            if not first:  # a GPU compiles
                self.seconds += time.monotonic() - began
            first = False
            yield loss
            ended = self.share >= 1
            if ended or self.seen >= next_save:
                next_save += settings.every
                self._keep(loss.item(), dev)
            if ended:
                return
            began = time.monotonic()

    def _step(self, batch: Batch) -> torch.Tensor:
        settings = self.settings
        if settings.int4 and self.share >= settings.int4_from and self.rounded is nullcontext:
            self.rounded = rounding.Rounding(self.model, settings.int4, settings.int4_embedding).rounded
        with self.rounded():
            with torch.autocast(settings.device, torch.bfloat16, enabled=settings.device == "cuda"):
                loss = self.model.loss(batch, settings.smoothing, settings.soft)
            loss.backward()
        workers.average(p.grad for p in self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * rate_at(self.share)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach()

    @property
    def result(self) -> network.Decoder:
        """What the run makes: the mean of the weights, or the weights."""
        return self.averaged.module if self.averaged else self.model

    def _keep(self, loss: float, dev: list[Path]) -> None:
        """Writes the result, rounded if it is trained for that: a bundle then has the checkpoint's very weights."""
        settings, rounded = self.settings, nullcontext
        if self.rounded is not nullcontext:
            rounded = rounding.Rounding(self.result, settings.int4, settings.int4_embedding).rounded
        with rounded():
            self._log(loss, dev)
            if not workers.rank():
                network.save(self.result, self.run)
        if not workers.rank():
            self._save()

    def _log(self, loss: float, dev: list[Path]) -> None:
        model, tokens = self.result.eval(), batches.tokenizer(self.vocabulary)
        size, device = self.settings.batch, self.settings.device
        own = [(p.stem, round(loss_of(model, tokens, p, size, device), 4)) for p in workers.share(dev)]
        found = dict(workers.gather(own))
        self.model.train()
        if workers.rank():
            return
        line = {"tokens": self.seen, "seconds": round(self.seconds), "loss": round(loss, 4), "dev": found}
        with (self.run / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        state = {name: getattr(self, name) for name in KEPT}
        state["model"] = self.model.state_dict()
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        state["averaged"] = self.averaged and self.averaged.state_dict()
        state["random"] = torch.get_rng_state()
        torch.save(state, self.run / ".state.pt")
        (self.run / ".state.pt").replace(self.run / "state.pt")

    def _resume(self) -> None:
        state = torch.load(self.run / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        if not workers.rank():
            torch.set_rng_state(state["random"])
        for name in KEPT:
            setattr(self, name, state[name])
