"""How likely a model finds answers that it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeslm.engines.protocol import Logits
from edgeslm.engines.session import Session
from edgeslm.errors import ContextLengthError
from edgeslm.lazy_numpy import np


def score(
    session: Session, prompt: Sequence[int], answers: Sequence[Sequence[int]], ends: Sequence[int]
) -> list[float]:
    """The log probability per token of answers to a prompt, their end counted; -inf beyond the context.

    The session is used from its beginning on.
    """
    session.truncate(0)
    try:
        first = session.forward(prompt)
    except ContextLengthError:
        return [-math.inf] * len(answers)
    return [_score(session, first, len(prompt), answer, ends) for answer in answers]


def _score(session: Session, first: Logits, start: int, answer: Sequence[int], ends: Sequence[int]) -> float:
    try:
        rows = np.concatenate([first, session.forward(answer, rows="all")]) if answer else first
    except ContextLengthError:
        return -math.inf
    session.truncate(start)
    exponents = np.exp(rows - rows.max(axis=1, keepdims=True))
    chosen = [exponents[i, token] for i, token in enumerate(answer)] + [exponents[-1, ends].sum()]
    return float(np.mean(np.log(np.array(chosen, np.float64) / exponents.sum(axis=1, dtype=np.float64))))
