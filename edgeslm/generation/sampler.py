"""The sampler of this installation: compiled, or in NumPy where nothing was."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING or importlib.util.find_spec("edgeslm.generation._sampling") is not None:
    from edgeslm.generation._sampling import Sampler
else:
    from edgeslm.generation.plain_sampling import Sampler

__all__ = ["Sampler"]
