"""Beam search told again, the slow and obvious way: every line is run from its first token at every step."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from edgeslm.engines.protocol import Engine
from edgeslm.translation.search import Query


def best_of_all(engine: Engine, query: Query, ends: frozenset[int]) -> list[tuple[tuple[int, ...], float]]:
    """Tokens and log probability per token of the answers to a query, best first."""
    lines: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    ended: list[tuple[tuple[int, ...], float]] = []
    for length in range(1, query.limit + 1):
        grown = []
        for tokens, score in lines:
            with closing(engine.new_session()) as session:
                row = session.forward([*query.prompt, *tokens])[0].astype(np.float64)
            row -= np.log(np.exp(row - row.max()).sum()) + row.max()
            grown += [((*tokens, token), score + row[token]) for token in range(len(row))]
        grown.sort(key=lambda line: -line[1])
        looked_at = grown[: query.beams * (1 + len(ends))]
        ended += [(tokens[:-1], score / length) for tokens, score in looked_at if tokens[-1] in ends]
        ended = sorted(ended, key=lambda line: -line[1])[: query.beams]
        lines = [line for line in looked_at if line[0][-1] not in ends][: query.beams]
        if len(ended) == query.beams and ended[-1][1] >= lines[0][1] / length:
            break
    return ended or [(tokens, score / query.limit) for tokens, score in lines]
