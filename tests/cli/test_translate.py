from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Edgeslm = Callable[..., Any]
WAY = ("--from", "en", "--to", "de", "--threads", 1)


def test_a_text(edgeslm: Edgeslm) -> None:
    done = edgeslm("translate", "I need new shoes.", *WAY)
    assert (done.code, done.out, done.err) == (0, "Ich brauche neue Schuhe.\n", "")


def test_stdin_json_and_alternatives(edgeslm: Edgeslm) -> None:
    found = edgeslm("translate", "-", *WAY, "--json", stdin=b"I need new shoes.\n").json
    assert found == {"text": "Ich brauche neue Schuhe.\n", "source": "en", "target": "de", "alternatives": []}
    done = edgeslm("translate", "Where is the train station?", *WAY, "--alternatives", 2)
    assert done.out.splitlines()[0] == "Wo ist der Bahnhof?" and 2 <= len(done.out.splitlines()) <= 3
    assert edgeslm("translate", "-", *WAY, stdin=b"a\0b").code == 1


def test_a_file(edgeslm: Edgeslm, tmp_path: Path) -> None:
    source, out = tmp_path / "page.html", tmp_path / "seite.html"
    source.write_text("<title>I am here.</title><p>I need new shoes.</p><script>I am here.</script>\n")
    expected = "<title>Ich bin hier.</title><p>Ich brauche neue Schuhe.</p><script>I am here.</script>\n"
    assert edgeslm("translate", source, *WAY).out == expected
    done = edgeslm("translate", source, *WAY, "-o", out, "--json")
    assert done.code == 0 and done.json["out"] == str(out) and out.read_text() == expected
    assert edgeslm("translate", source, *WAY, "-o", out, "--resume").code == 0


def test_wrong_use_says_so(edgeslm: Edgeslm, tmp_path: Path) -> None:
    assert edgeslm("translate", "no-such-file.md", *WAY).code == 1
    assert edgeslm("translate", "Some text.", *WAY, "-o", tmp_path / "x").code == 2
    assert edgeslm("translate", "Some text.", *WAY, "--resume").code == 2
    done = edgeslm("translate", "Hallo", "--from", "de", "--to", "en")
    assert done.code == 1 and "en→de" in done.err
