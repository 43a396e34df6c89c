from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeslm.errors import ArgumentError, EngineError
from edgeslm.generation._sampling import Sampler

Float64 = npt.NDArray[np.float64]
SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.5},
    {"temperature": 3.0, "top_k": 7},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.7},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_p": 0.0},
    {"temperature": 1.0, "top_k": 1000, "top_p": 1.0},
]


def probabilities(logits: npt.NDArray[np.float32], temperature: float, top_k: int = 0, top_p: float = 1.0) -> Float64:
    """The definition, restated plainly."""
    scores = logits.astype(np.float64) / temperature
    if 0 < top_k < scores.size:
        scores[scores < np.sort(scores)[-top_k]] = -np.inf
    p = np.exp(scores - scores.max())
    p /= p.sum()
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
        likelier = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
        p[order[1:][likelier[1:] >= top_p]] = 0
    return p / p.sum()


def logits_of(seed: int, size: int = 40) -> npt.NDArray[np.float32]:
    return (2 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def test_greedy_takes_the_largest_and_of_equals_the_first() -> None:
    sampler = Sampler(6)
    assert sampler.sample(np.array([0, 3, -1, 3, 2, 3], np.float32)) == 1
    assert sampler.sample(np.full(6, -7, np.float32)) == 0
    assert sampler.sample(np.array([-np.inf] * 5 + [-3], np.float32)) == 5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("position", [0, 3, 5])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_broken_logits_raise(temperature: float, position: int, value: float, word: str) -> None:
    logits = np.zeros(6, np.float32)
    logits[position] = value
    with pytest.raises(EngineError, match=word):
        Sampler(6, temperature).sample(logits)


def test_a_row_of_minus_infinity_raises() -> None:
    with pytest.raises(EngineError, match="infinite"):
        Sampler(6, 1.0).sample(np.full(6, -np.inf, np.float32))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_frequencies_follow_the_definition(settings: dict[str, float]) -> None:
    logits = logits_of(1)
    expected = probabilities(logits, **settings)  # type: ignore[arg-type]
    sampler = Sampler(logits.size, seed=7, **settings)  # type: ignore[arg-type]
    draws = 20_000
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=logits.size)
    assert not counts[expected == 0].any()
    kept = expected > 0
    chi_square = (((counts - draws * expected) ** 2)[kept] / (draws * expected[kept])).sum()
    freedom = kept.sum() - 1
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom)


def test_ties_at_the_kth_logit_stay() -> None:
    logits = np.array([1, 5, 3, 3, 3, 0], np.float32)
    sampler = Sampler(6, 10.0, top_k=2, seed=1)
    assert {sampler.sample(logits) for _ in range(300)} == {1, 2, 3, 4}


def test_the_definition_is_that_of_transformers() -> None:
    with np.load(Path(__file__).with_name("sampling.npz")) as golden:
        for (temperature, top_k, top_p), theirs in zip(golden["settings"], golden["probabilities"], strict=True):
            for logits, expected in zip(golden["logits"], theirs, strict=True):
                found = probabilities(logits, temperature, int(top_k), top_p)
                np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_generator_is_splitmix64() -> None:
    # The first values for seed 1234567 (rosettacode.org, "Pseudo-random numbers/Splitmix64").
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    size = 1 << 12  # equal weights: the token is the number's leading 12 bits
    sampler = Sampler(size, 1.0, seed=1234567)
    assert [sampler.sample(np.zeros(size, np.float32)) for _ in published] == [x >> 52 for x in published]


def test_the_seed_decides() -> None:
    logits = logits_of(3, 500)

    def text(seed: int) -> list[int]:
        sampler = Sampler(500, 1.0, top_p=0.95, seed=seed)
        return [sampler.sample(logits) for _ in range(20)]

    assert text(5) == text(5)
    assert len({tuple(text(seed)) for seed in (0, 1, 2, 2**64 - 1)}) == 4


def test_extreme_temperatures() -> None:
    logits = logits_of(4)
    cold, hot = Sampler(40, 1e-300, seed=1), Sampler(40, 1e300, seed=1)
    assert {cold.sample(logits) for _ in range(50)} == {int(logits.argmax())}
    assert len({hot.sample(logits) for _ in range(2000)}) == 40


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected 6 logits, found 5"):
        Sampler(6).sample(np.zeros(5, np.float32))
    for wrong in ({"vocab_size": 0}, {"temperature": -1.0}, {"temperature": np.nan}, {"top_k": -1}, {"top_p": 1.5}):
        with pytest.raises(ArgumentError):
            Sampler(**{"vocab_size": 6, **wrong})  # type: ignore[arg-type]
