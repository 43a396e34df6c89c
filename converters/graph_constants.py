"""What every target's graph reads besides the weights."""

from __future__ import annotations

import numpy as np

from edgeslm.formats.base import F32Array
from edgeslm.rope import query_temperature, rope_tables, uses_long
from edgeslm.spec import DecoderSpec


def graph_constants(spec: DecoderSpec) -> dict[str, F32Array]:
    """Per rope the cos and sin tables, a row for each position, and the temperature of queries."""
    positions, constants = np.arange(spec.context_length), {}
    for i, rope in enumerate(spec.ropes):
        cos, sin = rope_tables(rope, positions, uses_long(rope, spec.context_length))
        constants[f"ropes.{i}.cos"], constants[f"ropes.{i}.sin"] = cos, sin
        if rope.q_beta:
            constants[f"ropes.{i}.temperature"] = query_temperature(rope, positions)[:, None]
    return constants
