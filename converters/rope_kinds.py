"""Rope kinds of Hugging Face configs, resolved to frequencies.

Formulas: transformers, ``modeling_rope_utils.py`` and each model's ``compute_default_rope_parameters``; in
float32, as there, because the last bit of a frequency moves the angle at large positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeslm.converters.config import Config
from edgeslm.rope import F32Array
from edgeslm.spec import Rope

DEFAULT_THETA = 10000.0


@dataclass(frozen=True)
class Base:
    """What a rope is before its kind changes it."""

    theta: float
    dim: int  # rotary width
    context: int  # max_position_embeddings
    original: int  # context before a kind extended it

    @property
    def frequencies(self) -> F32Array:
        return inverse_frequencies(self.theta, self.dim)


Kind = Callable[[Config, Base], Rope]


def rope_of(
    config: Config,
    head_dim: int,
    context_length: int,
    *,
    kinds: Mapping[str, Kind] | None = None,
    partial: bool = False,
    original: int | None = None,
) -> Rope:
    """The rope of a config with one rope for all layers.

    Both styles are read: ``rope_theta`` with ``rope_scaling`` (transformers 4) and ``rope_parameters`` (5).

    Args:
        config: the whole config.
        head_dim: width of a head.
        context_length: the config's ``max_position_embeddings``.
        kinds: names that the family knows; :data:`KINDS` by default.
        partial: does the family honour ``partial_rotary_factor``?
        original: ``original_max_position_embeddings`` of a family whose config always has one; None: as the rope's
            section says, else the context.

    Raises:
        UnsupportedModelError: a kind that is not supported, or keys that the kind does not know.
        CheckpointError: a value out of range.
    """
    kinds = KINDS if kinds is None else kinds
    scaling, parameters = config.section("rope_scaling"), config.section("rope_parameters")
    section = scaling or parameters or Config({}, "rope_parameters")
    theta = section.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    inner_original = section.integer("original_max_position_embeddings", context_length)
    base = Base(
        theta,
        _rotary_width(config, section, head_dim, partial),
        context_length,
        config.integer("original_max_position_embeddings", inner_original if original is None else original),
    )
    old_name = section.text("type", "default")
    kind = section.text("rope_type", old_name)
    if kind not in kinds:
        raise section.unsupported("rope_type" if "rope_type" in section else "type", kinds)
    with np.errstate(all="ignore"):  # what overflows is refused by the spec
        rope = kinds[kind](section, base)
    section.check_all_read()
    return rope


def _rotary_width(config: Config, section: Config, head_dim: int, partial: bool) -> int:
    """``partial_rotary_factor`` of a head, rounded down; the section's goes before the config's."""
    outer = config.number("partial_rotary_factor", 1.0)
    factor = section.number("partial_rotary_factor", outer)
    source = section if "partial_rotary_factor" in section else config
    if not partial and (outer, factor) != (1.0, 1.0):
        raise (source if factor != 1.0 else config).unsupported("partial_rotary_factor", ["1"])
    width = int(head_dim * factor)
    if factor != 1.0 and not (0 < width <= head_dim and width % 2 == 0):
        raise source.refuse("partial_rotary_factor", f"an even part of head_dim {head_dim}")
    return width


def inverse_frequencies(theta: float, dim: int, factors: F32Array | float = 1.0) -> F32Array:
    """1 / (factors · theta^(2i / dim)) for i in 0..dim / 2 - 1, rounded to float32 at each step as torch does."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    powers = np.power(np.float64(theta), exponents.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(1) / (factors * powers))


def _default(section: Config, base: Base) -> Rope:
    return _rope(base.frequencies)


def _linear(section: Config, base: Base) -> Rope:
    return _rope(base.frequencies / np.float32(section.number("factor")))


def _llama3(section: Config, base: Base) -> Rope:
    """Long wavelengths are stretched by ``factor``, short ones stay, those between are interpolated."""
    frequencies, original = base.frequencies, base.original
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


def _longrope(section: Config, base: Base) -> Rope:
    """A divisor per frequency, of its own for contexts up to the original one and for longer ones."""
    factor = section.number("factor", base.context / base.original)
    suggested = math.sqrt(1 + math.log(factor) / math.log(base.original)) if factor > 1 and base.original > 1 else 1.0
    scale = section.number("attention_factor", suggested)
    short, long = (
        inverse_frequencies(base.theta, base.dim, np.array(section.numbers(key, base.dim // 2), np.float32))
        for key in ("short_factor", "long_factor")
    )
    return replace(
        _rope(short), scale=scale, long_inv_freq=_rope(long).inv_freq, long_scale=scale, switch_at=base.original
    )


KINDS: dict[str, Kind] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
}
