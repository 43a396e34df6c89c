"""What the user asks of a conversion, and the format of each tensor that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeslm.errors import ArgumentError
from edgeslm.formats import FORMATS, GROUP_SIZES
from edgeslm.spec import DecoderSpec, tensor_shapes

LEVELS = {"none": "f32", "fp16": "f16", "int8": "q8", "int4": "q4"}
EMBED_LEVELS = ("int4", "int8")


@dataclass(frozen=True)
class Options:
    """Settings of one target: how far the weights are quantised.

    Raises:
        ArgumentError: an unknown level or group size, or ``embed`` where nothing is quantised.
    """

    quantize: str = "int8"  # "none", "fp16", "int8" or "int4"
    group_size: int = 32  # weights that share a scale; of no effect on "none" and "fp16"
    embed: str | None = None  # level of the embedding, and so of a head tied to it; None: like the rest

    def __post_init__(self) -> None:
        if self.quantize not in LEVELS:
            raise ArgumentError(f"--quantize {self.quantize}: expected one of {', '.join(LEVELS)}")
        if self.group_size not in GROUP_SIZES:
            raise ArgumentError(f"--group-size {self.group_size}: expected one of {GROUP_SIZES}")
        if self.embed is None:
            return
        if self.embed not in EMBED_LEVELS:
            raise ArgumentError(f"--embed {self.embed}: expected one of {', '.join(EMBED_LEVELS)}")
        if self.quantize not in EMBED_LEVELS:
            raise ArgumentError(f"--embed {self.embed}: --quantize {self.quantize} keeps the embedding unquantised")

    def settings(self) -> dict[str, Any]:
        """As the manifest records them."""
        grouped = FORMATS[LEVELS[self.quantize]].grouped
        return {
            "quantize": self.quantize,
            "group_size": self.group_size if grouped else 0,
            "embed": self.embed or self.quantize,
        }


def tensor_formats(spec: DecoderSpec, options: Options) -> dict[str, tuple[str, int]]:
    """Canonical name → (format, group size), in decoder order.

    Vectors (norms, biases) stay float32. A head of its own is a linear like the others: every token reads all of it,
    so quantising it pays, while ``embed`` is about a table of which a token reads one row.
    """
    linear, embed = LEVELS[options.quantize], LEVELS[options.embed or options.quantize]

    def choose(name: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 1:
            return "f32"
        return embed if name == "embed" else linear

    formats = {name: choose(name, shape) for name, shape in tensor_shapes(spec).items()}
    return {name: (f, options.group_size if FORMATS[f].grouped else 0) for name, f in formats.items()}


def largest_group(inputs: int, wanted: int) -> int:
    """For targets that pad no rows: the largest group size up to ``wanted`` that divides ``inputs``; 0: none does."""
    return max((g for g in GROUP_SIZES if g <= wanted and inputs % g == 0), default=0)
