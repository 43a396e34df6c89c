"""Choosing the next token in NumPy, for installations without compiled code: the definition of _sampling.pyx."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from edgeslm.errors import ArgumentError, EngineError

Row = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
FLOAT_MAX = float(np.finfo(np.float32).max)
FLOAT_MIN = float(np.finfo(np.float32).tiny)
_WORD = (1 << 64) - 1


class Sampler:
    """As :class:`edgeslm.generation._sampling.Sampler`: the same probabilities; a seed draws other tokens."""

    def __init__(
        self,
        vocab_size: int,
        temperature: float = 0,
        top_k: int = 0,
        top_p: float = 1,
        min_p: float = 0,
        repetition_penalty: float = 1,
        presence_penalty: float = 0,
        frequency_penalty: float = 0,
        logit_bias: dict[int, float] | None = None,
        suppress_tokens: Collection[int] = (),
        prompt: Collection[int] = (),
        seed: int = 0,
    ) -> None:
        if not (vocab_size > 0 and temperature >= 0 and top_k >= 0 and 0 <= top_p <= 1 and 0 <= min_p <= 1):
            raise ArgumentError(
                f"Sampler: vocab_size {vocab_size}, temperature {temperature}, top_k {top_k}, top_p {top_p} "
                f"or min_p {min_p} out of range"
            )
        self._size, self._top_p, self._min_p = vocab_size, top_p, min_p
        self._top_k = top_k if top_k < vocab_size else 0
        self._greedy = temperature == 0
        self._sharpness = 0.0 if self._greedy else max(min(1 / temperature, FLOAT_MAX), FLOAT_MIN)
        self._penalties = (repetition_penalty, presence_penalty, frequency_penalty)
        self._bias = {self._checked(token): bias for token, bias in (logit_bias or {}).items()}
        self._suppressed = [self._checked(token) for token in suppress_tokens]
        self._drawn = np.full(vocab_size, -1)  # how often the completion holds an id; -1: nor does the prompt
        self._drawn[[self._checked(token) for token in prompt]] = 0
        self._state = seed

    def sample(self, logits: Row) -> int:
        """The next token's id, from its logits (vocab_size,).

        Raises:
            ArgumentError: another number of logits.
            EngineError: a logit is NaN or +inf, or all are -inf.
        """
        weights = self._weights(logits)
        kept = np.flatnonzero(weights)
        sums = np.cumsum(weights[kept])
        token = int(kept[min(np.searchsorted(sums, self._uniform() * sums[-1], side="right"), kept.size - 1)])
        self._drawn[token] = max(self._drawn[token], 0) + 1
        return token

    def probabilities(self, logits: Row) -> dict[int, float]:
        """What :meth:`sample` would draw from: probabilities by id, of the tokens that are left; errors as there."""
        weights = self._weights(logits)
        total = weights.sum()
        return {int(token): float(weights[token] / total) for token in np.flatnonzero(weights)}

    def logprobs(self, logits: Row, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
        """Of the logits as they are: log probability of ``token``; the ``top`` likeliest ids with theirs, falling."""
        row = self._row(logits)
        logs = row - (row.max() + np.log(np.exp(row - row.max()).sum()))
        likeliest = np.argsort(-row, kind="stable")[:top]
        return float(logs[self._checked(token)]), [(int(i), float(logs[i])) for i in likeliest]

    def _row(self, logits: Row) -> Weights:
        if logits.shape != (self._size,):
            raise ArgumentError(f"expected {self._size} logits, found {logits.size}")
        return logits.astype(np.float64)

    def _weights(self, logits: Row) -> Weights:
        """What each token weighs in the draw; 0 where it is left out."""
        scores = self._changed(self._row(logits))
        best = int(scores.argmax())  # the first NaN, where there is one
        if not np.isfinite(scores[best]):
            what = "NaN" if np.isnan(scores[best]) else "infinite values"
            raise EngineError(
                f"the model's logits hold {what}: the computation broke down; check the bundle with edgeslm verify"
            )
        if self._greedy:
            return np.asarray(np.arange(self._size) == best, np.float64)
        weights: Weights = np.exp(np.maximum((scores - scores[best]) * self._sharpness, -1e4))
        weights[weights < FLOAT_MIN] = 0
        if self._top_k:
            weights[scores < np.partition(scores, -self._top_k)[-self._top_k]] = 0
        if self._top_p < 1:
            order = np.argsort(-weights, kind="stable")
            likelier = np.cumsum(weights[order]) - weights[order]
            weights[order[1:][likelier[1:] >= self._top_p * weights.sum()]] = 0
        weights[weights < self._min_p] = 0
        return weights

    def _changed(self, scores: Weights) -> Weights:
        """The logits after bias, penalties and suppression; what is finite stays so."""
        infinite = ~np.isfinite(scores)
        kept = scores[infinite]
        for token, bias in self._bias.items():
            scores[token] = np.clip(scores[token] + np.clip(bias, -FLOAT_MAX, FLOAT_MAX), -FLOAT_MAX, FLOAT_MAX)
        repetition, presence, frequency = self._penalties
        if (repetition, presence, frequency) != (1, 0, 0):
            seen, times = self._drawn >= 0, self._drawn
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.where(scores < 0, scores * repetition, scores / repetition)
                values -= np.where(times > 0, frequency * times + presence, 0)
            scores = np.where(seen, np.clip(values, -FLOAT_MAX, FLOAT_MAX), scores)
        scores[infinite] = kept
        scores[self._suppressed] = -np.inf
        return scores

    def _checked(self, token: int) -> int:
        if not 0 <= token < self._size:
            raise ArgumentError(f"token id {token} is outside the vocabulary, 0..{self._size - 1}")
        return token

    def _uniform(self) -> float:
        """The next value of SplitMix64 as a double in [0, 1)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _WORD
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _WORD
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)
