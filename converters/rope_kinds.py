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
from edgeslm.formats.base import F32Array
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


def rope_of(config: Config, head_dim: int, context_length: int, theta: float = DEFAULT_THETA) -> Rope:
    """The rope of a config with one rope for all layers, rotating whole heads.

    Both styles are read: ``rope_theta`` with ``rope_scaling`` (transformers 4) and ``rope_parameters`` (5);
    ``theta`` holds where neither says.

    Raises:
        UnsupportedModelError: a kind that is not supported, or keys that the kind does not know.
        CheckpointError: a value out of range.
    """
    section = rope_section(config) or Config({}, "rope_parameters")
    return rope_of_section(config, section, head_dim, context_length, config.number("rope_theta", theta))


def rope_section(config: Config) -> Config | None:
    """The object that describes the rope of a config with one rope for all layers, in either style."""
    scaling, parameters = config.section("rope_scaling"), config.section("rope_parameters")
    return scaling or parameters


def original_context(config: Config, section: Config, context_length: int) -> int:
    """Tokens of context before a kind extended it: as ``config`` says, else ``section``, else the context."""
    inner = section.integer("original_max_position_embeddings", context_length)
    return config.integer("original_max_position_embeddings", inner)


def rotary_width(config: Config, section: Config, head_dim: int) -> int:
    """How much of a head is rotated: the part ``partial_rotary_factor``, of ``section`` or else of ``config``."""
    outer = config.number("partial_rotary_factor", 1.0)
    factor = section.number("partial_rotary_factor", outer)
    width = int(head_dim * factor)
    if factor != 1.0 and not (0 < width <= head_dim and width % 2 == 0):
        source = section if "partial_rotary_factor" in section else config
        raise source.refuse("partial_rotary_factor", f"an even part of head_dim {head_dim}")
    return width


def rope_of_section(config: Config, section: Config, head_dim: int, context_length: int, theta: float) -> Rope:
    """The rope that ``section`` of ``config`` describes, with base ``theta`` unless it says otherwise.

    Raises as :func:`rope_of`.
    """
    for part in (config, section):
        if part.number("partial_rotary_factor", 1.0) != 1.0:
            raise part.unsupported("partial_rotary_factor", ["1"])
    original = original_context(config, section, context_length)
    return scaled(section, KINDS, Base(section.number("rope_theta", theta), head_dim, context_length, original))


def scaled(section: Config, kinds: Mapping[str, Kind], base: Base) -> Rope:
    """The rope that the kind named by ``section`` makes of ``base``.

    Raises as :func:`rope_of`.
    """
    old_name = section.text("type", "default")
    kind = section.text("rope_type", old_name)
    if kind not in kinds:
        raise section.unsupported("rope_type" if "rope_type" in section else "type", kinds)
    with np.errstate(all="ignore"):  # what overflows is refused by the spec
        rope = kinds[kind](section, base)
    section.check_all_read()
    return rope


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
    factor = np.float32(section.number("factor"))
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if not low < high:
        raise section.refuse("high_freq_factor", f"a number above low_freq_factor ({low})")
    frequencies, original = base.frequencies, base.original
    wavelengths = np.float32(2 * math.pi) / frequencies
    stretched = np.where(wavelengths > np.float32(original / low), frequencies / factor, frequencies)
    smooth = (np.float32(original) / wavelengths - np.float32(low)) / np.float32(high - low)
    between = (np.float32(1) - smooth) * stretched / factor + smooth * stretched
    medium = (wavelengths >= np.float32(original / high)) & (wavelengths <= np.float32(original / low))
    return _rope(np.where(medium, between, stretched))


def _yarn(section: Config, base: Base) -> Rope:
    """Dimensions that turn rarely within the original context are stretched, those that turn often stay.

    Between ``beta_slow`` and ``beta_fast`` turns the two are mixed along a ramp over the dimensions.
    """
    factor = section.number("factor", base.context / base.original)
    low, high = _yarn_range(section, base)
    steps = np.arange(len(base.frequencies), dtype=np.float32)
    ramp = np.clip((steps - np.float32(low)) / np.float32(high - low), np.float32(0), np.float32(1))
    kept = np.float32(1) - ramp
    stretched = inverse_frequencies(base.theta, base.dim, np.array(factor, np.float32))
    return _rope(stretched * (np.float32(1) - kept) + base.frequencies * kept, _yarn_scale(section, factor))


def _longrope(section: Config, base: Base) -> Rope:
    """A divisor per frequency, of its own for contexts up to the original one and for longer ones."""
    factor = section.number("factor", base.context / base.original)
    suggested = math.sqrt(1 + math.log(factor) / math.log(base.original)) if factor > 1 and base.original > 1 else 1.0
    scale = section.number("attention_factor", suggested)
    short, long = (
        inverse_frequencies(base.theta, base.dim, np.array(section.numbers(key, base.dim // 2), np.float32))
        for key in ("short_factor", "long_factor")
    )
    return replace(_rope(short, scale), long_inv_freq=_rope(long).inv_freq, long_scale=scale, switch_at=base.original)


def _yarn_range(section: Config, base: Base) -> tuple[float, float]:
    """The dimensions between which the ramp rises from 0 to 1."""
    if base.theta == 1:
        raise section.refuse("rope_theta", "a number other than 1")

    def dimension(turns: float) -> float:
        return base.dim * math.log(base.original / (turns * 2 * math.pi)) / (2 * math.log(base.theta))

    low, high = dimension(section.number("beta_fast", 32.0)), dimension(section.number("beta_slow", 1.0))
    if section.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, base.dim - 1)
    return low, high + 0.001 if low == high else high


def _yarn_scale(section: Config, factor: float) -> float:
    """``attention_factor``, else from ``mscale`` and ``mscale_all_dim`` where both are given, else from ``factor``."""
    both = section.values.get("mscale") is not None and section.values.get("mscale_all_dim") is not None
    mscale, all_dim = section.number("mscale", 1.0), section.number("mscale_all_dim", 1.0)

    def growth(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    return section.number("attention_factor", growth(mscale) / growth(all_dim) if both else growth(1.0))


def _rope(frequencies: F32Array, scale: float = 1.0) -> Rope:
    return Rope(inv_freq=tuple(float(f) for f in frequencies), scale=scale)


KINDS: dict[str, Kind] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "yarn": _yarn,
}
