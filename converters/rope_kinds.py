"""Rope kinds of Hugging Face configs, resolved to frequencies.

Formulas: transformers, ``modeling_rope_utils.py`` and each model's ``compute_default_rope_parameters``; in
float32, as there, because the last bit of a frequency moves the angle at large positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeslm.converters.config import Config
from edgeslm.rope import F32Array
from edgeslm.spec import Rope

DEFAULT_THETA = 10000.0


def rope_of(config: Config, head_dim: int, context_length: int, theta: float = DEFAULT_THETA) -> Rope:
    """The rope of a config with one rope for all layers, rotating whole heads.

    Both styles are read: ``rope_theta`` with ``rope_scaling`` (transformers 4) and ``rope_parameters`` (5);
    ``theta`` holds where neither says.

    Raises:
        UnsupportedModelError: a kind that is not supported, or keys that the kind does not know.
        CheckpointError: a value out of range.
    """
    scaling, parameters = config.section("rope_scaling"), config.section("rope_parameters")
    section = scaling or parameters or Config({}, "rope_parameters")
    return rope_of_section(config, section, head_dim, context_length, config.number("rope_theta", theta))


def rope_of_section(config: Config, section: Config, head_dim: int, context_length: int, theta: float) -> Rope:
    """The rope that ``section`` of ``config`` describes, with base ``theta`` unless it says otherwise.

    Raises as :func:`rope_of`.
    """
    for part in (config, section):
        if part.number("partial_rotary_factor", 1.0) != 1.0:
            raise part.unsupported("partial_rotary_factor", ["1"])
    frequencies = inverse_frequencies(section.number("rope_theta", theta), head_dim)
    inner_original = section.integer("original_max_position_embeddings", context_length)
    original = config.integer("original_max_position_embeddings", inner_original)
    old_name = section.text("type", "default")
    kind = section.text("rope_type", old_name)
    if kind not in KINDS:
        raise section.unsupported("rope_type" if "rope_type" in section else "type", KINDS)
    with np.errstate(all="ignore"):  # what overflows is refused by the spec
        rope = KINDS[kind](section, frequencies, original)
    section.check_all_read()
    return rope


def inverse_frequencies(theta: float, dim: int) -> F32Array:
    """theta^(-2i / dim) for i in 0..dim / 2 - 1, rounded to float32 at each step as torch does."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    powers = np.power(np.float64(theta), exponents.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(1) / powers)


def _default(section: Config, frequencies: F32Array, original: int) -> Rope:
    return _rope(frequencies)


def _linear(section: Config, frequencies: F32Array, original: int) -> Rope:
    return _rope(frequencies / np.float32(section.number("factor")))


def _llama3(section: Config, frequencies: F32Array, original: int) -> Rope:
    """Long wavelengths are stretched by ``factor``, short ones stay, those between are interpolated."""
    factor = np.float32(section.number("factor"))
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if not low < high:
        raise section.refuse("high_freq_factor", f"a number above low_freq_factor ({low})")
    wavelengths = np.float32(2 * math.pi) / frequencies
    stretched = np.where(wavelengths > np.float32(original / low), frequencies / factor, frequencies)
    smooth = (np.float32(original) / wavelengths - np.float32(low)) / np.float32(high - low)
    between = (np.float32(1) - smooth) * stretched / factor + smooth * stretched
    medium = (wavelengths >= np.float32(original / high)) & (wavelengths <= np.float32(original / low))
    return _rope(np.where(medium, between, stretched))


def _rope(frequencies: F32Array) -> Rope:
    return Rope(inv_freq=tuple(float(f) for f in frequencies))


KINDS: dict[str, Callable[[Config, F32Array, int], Rope]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
}
