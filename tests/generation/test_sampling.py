from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    {"temperature": 2.0, "top_p": 0.95, "min_p": 0.1},
]


def probabilities(
    logits: npt.NDArray[np.float32], temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Float64:
    """The definition of the filters, restated plainly."""
    scores = logits.astype(np.float64) / temperature
    if 0 < top_k < scores.size:
        scores[scores < np.sort(scores)[-top_k]] = -np.inf
    p = np.exp(scores - scores.max())
    p /= p.sum()
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
        likelier = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
        p[order[1:][likelier[1:] >= top_p]] = 0
    p[p < min_p * p.max()] = 0
    return np.asarray(p / p.sum())


def found_by(sampler: Sampler, logits: npt.NDArray[np.float32]) -> Float64:
    """The sampler's probabilities as an array."""
    found = np.zeros(logits.size)
    for token, probability in sampler.probabilities(logits).items():
        found[token] = probability
    return found


def with_history(
    options: dict[str, Any], prompt: list[int], completion: list[int], vocab: int, seed: int = 0
) -> Sampler:
    """A sampler that has drawn ``completion``."""
    given = dict(options)
    given["logit_bias"] = {int(token): bias for token, bias in given.get("logit_bias", {}).items()}
    sampler = Sampler(vocab, prompt=prompt, seed=seed, **{"temperature": 1.0, **given})
    for token in completion:
        only = np.full(vocab, -np.inf, np.float32)
        only[token] = 0
        assert sampler.sample(only) == token
    return sampler


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


def golden() -> dict[str, Any]:
    with np.load(Path(__file__).with_name("sampling.npz")) as file:
        return dict(file)


def test_kept_sets_and_probabilities_are_those_of_transformers() -> None:
    g = golden()
    settings = json.loads(str(g["settings"]))
    assert len(settings) == len(g["probabilities"]) > 20
    for options, theirs in zip(settings, g["probabilities"], strict=True):
        for logits, prompt, completion, expected in zip(
            g["logits"], g["prompts"], g["completions"], theirs, strict=True
        ):
            found = found_by(with_history(options, prompt.tolist(), completion.tolist(), logits.size), logits)
            assert ((found > 0) == (expected > 0)).all(), options
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(options))


def test_the_definition_is_that_of_transformers() -> None:
    g = golden()
    filters = {"temperature", "top_k", "top_p", "min_p"}
    covered = 0
    for options, theirs in zip(json.loads(str(g["settings"])), g["probabilities"], strict=True):
        if options.keys() <= filters:
            covered += 1
            for logits, expected in zip(g["logits"], theirs, strict=True):
                np.testing.assert_allclose(probabilities(logits, **options), expected, atol=1e-7)
    assert covered > 12


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1000, 32_003])
def test_rows_of_every_size(size: int) -> None:
    rng = np.random.default_rng(size)
    for spread in (0.3, 3.0, 20.0):
        logits = (spread * rng.standard_normal(size)).astype(np.float32)
        logits[rng.random(size) < 0.1] = -np.inf
        logits[rng.integers(size)] = spread
        for options in (
            *({}, {"top_k": 40}, {"top_k": 700}, {"top_p": 0.95}, {"min_p": 0.05}, {"temperature": 0.3, "top_p": 0.5}),
            *(
                {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
                {"top_p": 0.999},
                {"top_p": 0.9, "min_p": 0.2},
                {"top_k": 1},
            ),
        ):
            found = found_by(Sampler(size, **{"temperature": 1.0, **options}), logits)  # type: ignore[arg-type]
            expected = probabilities(logits, **options)  # type: ignore[arg-type]
            np.testing.assert_allclose(found, expected, atol=1e-6)
            differ = np.where(
                found > 0, expected == 0, expected > 1e-36
            )  # where float and double round apart, if at all
            assert differ.sum() <= 1 and expected[differ].sum() + found[differ].sum() < 1e-4


@pytest.mark.parametrize("position", [0, 62, 63, 64, 127, 128, 129])
def test_nothing_is_overlooked_in_the_last_block(position: int) -> None:
    logits = np.zeros(130, np.float32)
    logits[position] = 5
    assert Sampler(130).sample(logits) == position
    assert set(Sampler(130, 1.0, top_k=1).probabilities(logits)) == {position}
    logits[position] = np.nan
    with pytest.raises(EngineError, match="NaN"):
        Sampler(130).sample(logits)


def test_greedy_takes_the_likeliest_after_bias_and_penalties() -> None:
    g = golden()
    for options in ({"repetition_penalty": 1.3}, {"frequency_penalty": 0.7}, {"suppress_tokens": [0, 3, 8]}):
        index = json.loads(str(g["settings"])).index(options)
        for row, expected in enumerate(g["probabilities"][index]):
            prompt, completion = g["prompts"][row].tolist(), g["completions"][row].tolist()
            sampler = with_history({**options, "temperature": 0.0}, prompt, completion, 40)
            assert sampler.sample(g["logits"][row]) == expected.argmax()


EXTREMES: list[dict[str, Any]] = [
    *({"repetition_penalty": value} for value in (5e-324, 1e-40, 1e40, 1e308)),
    *({"presence_penalty": value} for value in (-1e308, 1e308)),
    *({"frequency_penalty": value, "presence_penalty": value} for value in (-1e308, 1e308)),
    {"logit_bias": {3: 1e308, 5: -1e308, 7: 1e308}},
    *({"temperature": value} for value in (5e-324, 1e-40, 1e40, 1e308)),
    *({"top_p": 5e-324}, {"min_p": 5e-324}, {"top_p": 1 - 2**-53}, {"min_p": 1 - 2**-53}, {"top_k": 2**62}),
]


@pytest.mark.parametrize("options", EXTREMES, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_extreme_values_leave_a_distribution(options: dict[str, Any], temperature: float) -> None:
    logits = logits_of(6)
    logits[9] = -np.inf
    sampler = with_history({"temperature": temperature, **options}, [1, 2, 3], [2, 2, 4], 40)
    found = sampler.probabilities(logits)
    assert sum(found.values()) == pytest.approx(1) and all(p > 0 for p in found.values()) and 9 not in found
    assert sampler.sample(logits) in found


def test_log_probabilities_are_of_the_logits_as_they_are() -> None:
    for size, top in ((1, 3), (40, 0), (40, 5), (1000, 20), (1000, 1000)):
        logits = logits_of(size, size)
        logits[size // 2] = -np.inf if size > 1 else 0
        expected = np.log(probabilities(logits), where=np.isfinite(logits), out=np.full(size, -np.inf))
        sampler = Sampler(size, 0.7, top_k=3, repetition_penalty=2, prompt=range(size), suppress_tokens=[])
        for token in {0, size - 1}:
            found, likeliest = sampler.logprobs(logits, token, top)
            assert found == pytest.approx(expected[token], abs=1e-6)
            order = np.argsort(-expected, kind="stable")[:top]
            assert [t for t, _ in likeliest] == order.tolist()
            np.testing.assert_allclose([p for _, p in likeliest], expected[order], atol=1e-6)
    with pytest.raises(ArgumentError, match="outside the vocabulary"):
        Sampler(40).logprobs(logits_of(1), 40, 1)


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
    for wrong in (
        *({"logit_bias": {6: 1.0}}, {"suppress_tokens": [-1]}, {"prompt": [6]}, {"min_p": 2.0}),
        *({"vocab_size": 0}, {"temperature": -1.0}, {"temperature": np.nan}, {"top_k": -1}, {"top_p": 1.5}),
    ):
        with pytest.raises(ArgumentError):
            Sampler(**{"vocab_size": 6, **wrong})  # type: ignore[arg-type]
