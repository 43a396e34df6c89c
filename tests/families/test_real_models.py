"""Trained checkpoints, greedily, by the oracle: the known text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.engines.reference import ReferenceEngine

STORY = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw \
a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to \
play with your ball, but I can't find it."\
"""


def greedy(folder: Path, prompt: str, stop: str) -> str:
    """Prompt and completion, until ``stop`` or the end token."""
    checkpoint = open_checkpoint(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = ReferenceEngine(checkpoint.spec, checkpoint.weights).new_session()
    ids = tokenizer.encode(prompt).ids
    logits = session.forward(ids)
    while ids[-1] != checkpoint.generation_config["eos_token_id"] and not tokenizer.decode(ids).endswith(stop):
        ids.append(int(np.argmax(logits[-1])))
        logits = session.forward(ids[-1:])
    return tokenizer.decode(ids)


def test_stories260k(shared: Path) -> None:
    assert greedy(shared / "models" / "stories260K", "Once upon a time", 'find it."') == STORY


def test_en_de_6m(shared: Path) -> None:
    text = greedy(shared / "models" / "en-de-6m", "<s><2de> I need new shoes.<sep>", "\n")
    assert text.endswith("Ich brauche neue Schuhe.")
