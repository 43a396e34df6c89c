"""Makes the tiny bundle that ``edgeslm doctor`` has LiteRT run: ``python tests/support/make_trial.py``.

Random weights, 70 kB: enough for its kernels to be run, and its answer to be compared.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "goldens"))
from tiny_models import llama, write_checkpoint

from edgeslm.converters.convert import convert

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 64, "eos_token_id": 2}


def make(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_checkpoint(Path(folder) / "trial", llama(**SHAPE, max_position_embeddings=64), dtype="BF16")
        convert(source, out, to=("litert",), check=False)


if __name__ == "__main__":
    from edgeslm.embedded import TRIAL

    shutil.rmtree(TRIAL, ignore_errors=True)
    make(TRIAL)
