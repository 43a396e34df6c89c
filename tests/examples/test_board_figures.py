"""The page of expected figures says what ``plan`` predicts today."""

from __future__ import annotations

from pathlib import Path

from board_figures import table

PAGE = Path(__file__).parents[2] / "docs" / "raspberrypi.md"


def test_the_page_agrees_with_plan() -> None:
    assert table() in PAGE.read_text("utf-8")
