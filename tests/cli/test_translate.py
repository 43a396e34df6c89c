from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeslm import Translator

Edgeslm = Callable[..., Any]
WAY = ("--from", "en", "--to", "de", "--threads", 1)


def test_a_text(edgeslm: Edgeslm) -> None:
    done = edgeslm("translate", "I need new shoes.", *WAY)
    assert (done.code, done.out, done.err) == (0, "Ich brauche neue Schuhe.\n", "")


def test_what_is_typed_is_translated_well_and_what_is_long_fast(edgeslm: Edgeslm) -> None:
    text = "Good luck with the new job."
    with Translator.load(threads=1) as translator:
        well, fast = (translator.translate(text, "en", "de", beams=beams).text for beams in (4, 1))
    assert well != fast
    assert edgeslm("translate", text, *WAY).out == f"{well}\n"
    assert edgeslm("translate", text, *WAY, "--beams", 1).out == f"{fast}\n"
    assert edgeslm("translate", "-", *WAY, stdin=text.encode()).out == f"{fast}\n"
    assert edgeslm("translate", "-", *WAY, "--beams", 4, stdin=text.encode()).out == f"{well}\n"


def test_stdin_json_and_alternatives(edgeslm: Edgeslm) -> None:
    found = edgeslm("translate", "-", *WAY, "--json", stdin=b"I need new shoes.\n").json
    assert 0.5 < found.pop("confidence") < 1
    expected = {"text": "Ich brauche neue Schuhe.\n", "source": "en", "target": "de", "alternatives": [], "kept": 0}
    assert found == expected
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


def test_where_the_model_is_unsure_a_note_says_so(edgeslm: Edgeslm, tmp_path: Path) -> None:
    strange = "The compiler emits a warning for unused variables."
    done = edgeslm("translate", strange, *WAY)
    assert done.code == 0 and "--min-confidence 0.55" in done.err and strange not in done.out
    assert not edgeslm("translate", "I need new shoes.", *WAY).err
    path, out = tmp_path / "a.md", tmp_path / "b.md"
    path.write_text(f"# {strange}\n\nI need new shoes.\n")
    for place in ((), ("-o", out)):
        done = edgeslm("translate", path, *WAY, "--min-confidence", 0.6, *place)
        assert done.code == 0 and "1 sentence is left untranslated" in done.err
        shown = done.out if not place else out.read_text()
        assert shown == f"# {strange}\n\nIch brauche neue Schuhe.\n"
    assert edgeslm("translate", path, *WAY, "--min-confidence", 2).code == 2


def test_wrong_use_says_so(edgeslm: Edgeslm, tmp_path: Path) -> None:
    assert edgeslm("translate", "no-such-file.md", *WAY).code == 1
    assert edgeslm("translate", "Some text.", *WAY, "-o", tmp_path / "x").code == 2
    assert edgeslm("translate", "Some text.", *WAY, "--resume").code == 2
    done = edgeslm("translate", "Hallo", "--from", "de", "--to", "it")
    assert done.code == 1 and "en→de" in done.err
