"""The embedded translator, and texts of the kinds that translators are known to damage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeslm import Translator


@pytest.fixture(scope="session")
def translator() -> Iterator[Translator]:
    with Translator.load(threads=2) as opened:
        yield opened
