"""The embedded translator, and texts of the kinds that translators are known to damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_files import rewrite

from edgeslm import Translator, embedded


@pytest.fixture(scope="session")
def translator() -> Iterator[Translator]:
    with Translator.load(threads=2) as opened:
        yield opened


@pytest.fixture(scope="session")
def one_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a card that has English to German alone."""
    folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path_factory.mktemp("one") / "way"))
    card = json.loads((folder / "translation.json").read_text())
    del card["pairs"][1:]
    rewrite(folder, "translation.json", json.dumps(card).encode())
    return folder
