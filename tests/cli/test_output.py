from __future__ import annotations

import json

import pytest

from edgeslm.cli.output import print_json, print_table, size


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5, (float("inf"), None)], "b": {"c": float("-inf")}, "d": "ü\ud800"})
    found = json.loads(capsys.readouterr().out)
    assert found == {"a": [None, 1.5, [None, None]], "b": {"c": None}, "d": "ü\ud800"}


def test_tables_are_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [(1, None), ("[bold]", 2.5)], title="unseen")
    assert capsys.readouterr().out == "a\tb\n1\t\n[bold]\t2.5\n"


def test_tables_are_drawn_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("a", "b"), [("[bold]", 2.5)], title="seen")
    drawn = capsys.readouterr().out
    assert "seen" in drawn and "[bold]" in drawn and "│" in drawn


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (7_400_000, "7.4 MB"), (12e9, "12.00 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
