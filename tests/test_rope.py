"""Angles of the rotary embedding."""

from __future__ import annotations

import numpy as np

from edgeslm.rope import query_temperature, rope_tables, uses_long
from edgeslm.spec import Rope

ROPE = Rope((1.0, 0.25), 1.5, (0.5, 0.125), 2.0, switch_at=8, q_beta=0.1, q_period=4)


def test_tables() -> None:
    cos, sin = rope_tables(ROPE, np.array([0, 3]), long=False)
    assert cos.shape == sin.shape == (2, 2) and cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(cos, 1.5 * np.cos([[0, 0], [3, 0.75]]), rtol=1e-6)
    np.testing.assert_allclose(sin, 1.5 * np.sin([[0, 0], [3, 0.75]]), rtol=1e-6)
    cos, _ = rope_tables(ROPE, np.array([3]), long=True)
    np.testing.assert_allclose(cos, 2.0 * np.cos([[1.5, 0.375]]), rtol=1e-6)


def test_the_angle_is_a_float32_product() -> None:
    """As in transformers: at large positions the rounding of the product is visible."""
    frequency = np.float32(0.7943282)
    cos, _ = rope_tables(Rope((float(frequency),)), np.array([131071]), long=False)
    assert cos[0, 0] == np.cos(np.float32(131071) * frequency)
    assert abs(float(cos[0, 0]) - np.cos(131071 * float(frequency))) > 1e-4


def test_the_regime_follows_the_context() -> None:
    assert [uses_long(ROPE, n) for n in (7, 8, 9)] == [False, False, True]
    assert not uses_long(Rope((1.0,)), 1 << 20)


def test_query_temperature() -> None:
    expected = 1 + 0.1 * np.log([1, 1, 2, 3])
    np.testing.assert_allclose(query_temperature(ROPE, np.array([0, 3, 4, 11])), expected, rtol=1e-6)
    assert (query_temperature(Rope((1.0,)), np.arange(100)) == 1).all()
