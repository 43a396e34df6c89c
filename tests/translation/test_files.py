from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgeslm import Translator
from edgeslm.errors import ArgumentError
from edgeslm.translation.files import translate_file

TEXT = "I need new shoes. Where is the train station?\n\nI am here. You are there.\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text(TEXT)
    return path


def journal(out: Path) -> Path:
    return out.with_name(f".{out.name}.translating")


def test_a_file_is_translated_whole(translator: Translator, source: Path) -> None:
    out, seen = source.with_name("out.txt"), list[tuple[int, int]]()
    report = translate_file(translator, source, out, "en", "de", progress=lambda _, n, of: seen.append((n, of)))
    assert out.read_text() == translator.translate(TEXT, "en", "de").text
    assert (report.source, report.target, report.resumed) == ("en", "de", 0)
    assert seen[-1] == (report.pieces, report.pieces) and len(seen) == report.pieces
    assert sorted(path.name for path in out.parent.iterdir()) == ["in.txt", "out.txt"]


def test_line_ends_and_a_byte_order_mark_stay(translator: Translator, source: Path) -> None:
    source.write_bytes("\ufeffI am here.\r\nI am here.\n".encode())
    translate_file(translator, source, source.with_name("out.txt"), "en", "de")
    assert source.with_name("out.txt").read_bytes() == "\ufeffIch bin hier.\r\nIch bin hier.\n".encode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize("die_at", [1, 4])
def test_killed_half_way_it_leaves_no_half_file_and_goes_on(translator: Translator, source: Path, die_at: int) -> None:
    out = source.with_name("out.txt")
    pid = os.fork()
    if pid == 0:
        try:  # a model does not outlive a fork: the child opens its own

            def progress(what: str, done: int, total: int) -> None:
                if done == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            with Translator.load(threads=1) as own:
                translate_file(own, source, out, "en", "de", progress=progress)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not out.exists() and journal(out).exists()
    with journal(out).open("a") as file:
        file.write('"a line that was cut o')
    report = translate_file(translator, source, out, "en", "de", resume=True)
    assert report.resumed == die_at and not journal(out).exists()
    assert out.read_text() == translator.translate(TEXT, "en", "de").text


@pytest.mark.parametrize("left", [b"", b"{}\n", b"\xff\n", b'{"text": "another"}\n"a"\n'])
def test_another_journal_is_not_gone_on_with(translator: Translator, source: Path, left: bytes) -> None:
    out = source.with_name("out.txt")
    journal(out).write_bytes(left)
    with pytest.raises(ArgumentError, match="without --resume"):
        translate_file(translator, source, out, "en", "de", resume=True)
    assert not out.exists() and journal(out).read_bytes() == left
    translate_file(translator, source, out, "en", "de")
    assert out.exists()


def test_a_file_that_changes_meanwhile(translator: Translator, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = source.with_name("out.txt")
    translate_file(translator, source, out, "en", "de", progress=lambda *_: source.write_text("Other.") and None)
    assert out.read_text() == translator.translate(TEXT, "en", "de").text
    assert "changed meanwhile" in caplog.text


@pytest.mark.parametrize(("content", "problem"), [(b"a\0b", "zero bytes"), (b"a\xffb", "byte 1 is not UTF-8")])
def test_what_is_no_text_is_refused(translator: Translator, source: Path, content: bytes, problem: str) -> None:
    source.write_bytes(content)
    with pytest.raises(ArgumentError, match=problem):
        translate_file(translator, source, source.with_name("out.txt"), "en", "de")
    with pytest.raises(ArgumentError, match="cannot be read"):
        translate_file(translator, source.with_name("none"), source.with_name("out.txt"), "en", "de")
    with pytest.raises(ArgumentError, match="cannot be written"):
        source.write_bytes(b"I am here.")
        translate_file(translator, source, source / "below a file", "en", "de")
