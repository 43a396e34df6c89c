"""The models that come with the package: translators, and a tiny one to try an engine with."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "models" / "everyday-en-de"  # what the converter takes
BUNDLE = CHECKPOINT.with_name(f"{CHECKPOINT.name}-int4")  # made from it, for devices without the converter
MORE = CHECKPOINT.with_name("everyday-multi-int4")  # English from and to German, French and Spanish
TRANSLATORS = (BUNDLE, MORE)  # the first is better at its one direction
TRIAL = CHECKPOINT.with_name("trial")  # a random one for LiteRT, just to see its kernels run
