"""Fixtures for all tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import FAMILIES, write_checkpoint
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options

os.environ["PYTHONSAFEPATH"] = "1"  # children of tests see the installed package too, wherever they are started
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
TOKENIZER_VOCAB = 320  # 256 bytes, the special tokens, and some merges
_TEXT = ("The little cat sat on the mat and the little dog sat on the log. Größe, naïve, 你好, ✓. " * 4).splitlines()


# Tests that drive code of native/; the sanitizer build runs these.
NATIVE_TESTS = (
    "kernels/",
    "engines/test_native",
    "generation/test_sampling",
    "hostile/test_mutations",
    "hostile/test_session_files",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them "native"."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(NATIVE_TESTS):
            item.add_marker(pytest.mark.native)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared models and corpora; where it is absent tests skip, but fail in CI."""
    path = Path(os.environ.get("EDGESLM_SHARED") or Path(__file__).resolve().parents[1] / ".." / "shared")
    if not path.is_dir():
        message = f"{path} is absent; set EDGESLM_SHARED"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path.resolve()


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Path]:
    """A function that writes a tiny seeded Hugging Face checkpoint into a folder, and returns the folder.

    ``make_checkpoint(folder, family="llama", tokenizer=True, seed=0, dtype="F32", shards=1, **config)``;
    ``config`` overrides keys of its config.json.
    """

    def make(
        folder: Path,
        family: str = "llama",
        tokenizer: bool = True,
        seed: int = 0,
        dtype: str = "F32",
        shards: int = 1,
        **config: Any,
    ) -> Path:
        keys = {"vocab_size": TOKENIZER_VOCAB, "eos_token_id": 2, **config}
        write_checkpoint(folder, FAMILIES[family](**keys), seed=seed, dtype=dtype, shards=shards)
        if tokenizer:
            write_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer; shared, so not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as an int4 bundle with an int8 embedding; shared, so not to be changed."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    convert(tiny_checkpoint, folder, options=Options("int4", embed="int8"), check=False)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer that puts <s> first, with a chat template, as Hugging Face saves one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_VOCAB,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}{{ '<s>' + m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
