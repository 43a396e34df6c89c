"""The models that come with the package: a translator, and a tiny one to try an engine with."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "models" / "everyday"  # what the converter takes
BUNDLE = CHECKPOINT.with_name(f"{CHECKPOINT.name}-int4")  # made from it, for devices without the converter
TRIAL = CHECKPOINT.with_name("trial")  # a random one for LiteRT, just to see its kernels run
