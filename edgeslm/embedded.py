"""The translator that comes with the package."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "models" / "en-de-6m"  # what the converter takes
BUNDLE = CHECKPOINT.with_name(f"{CHECKPOINT.name}-int8")  # made from it, for devices without the converter
