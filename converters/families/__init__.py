"""Model families: one module each, named like Hugging Face's ``model_type``, found by being here.

A family is two functions (see :class:`Family`): what its config means, and where its weights are stored.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Protocol, cast

from edgeslm.converters.checkpoint_weights import Stored
from edgeslm.converters.config import Config
from edgeslm.spec import DecoderSpec


class Family(Protocol):
    """What a module in this package provides."""

    def read_spec(self, config: Config) -> DecoderSpec:
        """The decoder that ``config`` describes; missing keys take that family's defaults in transformers."""

    def stored_weights(self, spec: DecoderSpec, config: Config) -> Mapping[str, Stored]:
        """Canonical name → place in the checkpoint, for every weight of ``spec``; multipliers of ``config`` folded."""


def model_types() -> list[str]:
    """The supported model types."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "common")


def family_of(config: Config) -> Family:
    """The family named by the config's ``model_type``.

    Raises:
        UnsupportedModelError: an unknown model type; lists the known ones.
    """
    name = config.text("model_type")
    if name not in model_types() and "text_config" in config:
        raise config.refuse_multimodal(model_types())
    if name not in model_types():  # before the import: the name comes from a stranger
        raise config.unsupported("model_type", model_types())
    return cast(Family, importlib.import_module(f"{__name__}.{name}"))
