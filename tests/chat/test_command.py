"""``edgeslm chat``, and ``run`` with a chat template or a prompt cache."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import edgeslm
from edgeslm.cli import chat as chat_command
from edgeslm.cli import main
from edgeslm.cli.turns import read_turn

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(make_chat_bundle: Any) -> Path:
    found: Path = make_chat_bundle()
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """As ``edgeslm``, in this process: exit code, stdout, stderr."""

    def call(*arguments: object, stdin: str | bytes = b"") -> tuple[int, str, str]:
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        code = main([str(a) for a in arguments])
        return (code, *capsys.readouterr())

    return call


def answers(bundle: Path, *texts: str, system: str | None = None, **options: Any) -> list[str]:
    with edgeslm.load(bundle) as model, model.chat(system) as chat:
        return [chat.send(text, **options).text for text in texts]


def test_each_line_of_a_pipe_is_a_turn(run: Run, bundle: Path) -> None:
    code, out, _ = run("chat", bundle, "--max-new-tokens", 5, "--system", "x", stdin="Hi\n\n  \nand then?\n")
    assert code == 0
    assert out == "".join(f"{text}\n" for text in answers(bundle, "Hi", "and then?", system="x", max_new_tokens=5))


def test_sampling_options_are_those_of_run(run: Run, bundle: Path) -> None:
    given = ("--temp", "0.9", "--seed", 4, "--max-new-tokens", 8, "--top-k", 30, "--repetition-penalty", 1.2)
    _, out, _ = run("chat", bundle, *given, stdin="Hi")
    options: dict[str, Any] = {"temperature": 0.9, "seed": 4, "top_k": 30, "repetition_penalty": 1.2}
    assert out == answers(bundle, "Hi", max_new_tokens=8, **options)[0] + "\n"


def test_json_is_one_value_at_the_end(run: Run, bundle: Path) -> None:
    code, out, err = run("chat", bundle, "--json", "--max-new-tokens", 4, stdin="Hi\nHo\n")
    found = json.loads(out)
    assert code == 0 and [m["role"] for m in found["messages"]] == ["user", "assistant"] * 2
    assert [r["text"] for r in found["results"]] == [m["content"] for m in found["messages"][1::2]]
    assert found["results"][1]["timings"]["cached_tokens"] > 0
    assert found["results"][0]["text"] in err


def test_commands(run: Run, bundle: Path, tmp_path: Path) -> None:
    saved, again = tmp_path / "saved.json", tmp_path / "again.json"
    lines = ["/system be brief", "Hi", "//slash", "/undo", f"/save {saved}", "/reset", f"/load {saved}", "Ho"]
    code, _, err = run(
        "chat", bundle, "--max-new-tokens", 3, stdin="\n".join([*lines, f"/save {again}", "/exit", "no"])
    )
    assert code == 0 and "3 messages written" in err and "3 messages read" in err
    first, second = json.loads(saved.read_text()), json.loads(again.read_text())
    assert first[0] == {"role": "system", "content": "be brief"} and second[:3] == first
    assert [m["content"] for m in second if m["role"] == "user"] == ["Hi", "Ho"]
    assert not [p for p in tmp_path.iterdir() if p not in (saved, again)]
    code, _, err = run("chat", bundle, "--load", again, stdin="/help\n/save " + str(saved))
    assert "5 messages written" in err and "/undo" in err
    run("chat", bundle, "--load", again, "--system", "new", stdin="/save " + str(saved))
    assert json.loads(saved.read_text()) == [{"role": "system", "content": "new"}, *second[1:]]


def test_two_slashes_send_one(run: Run, bundle: Path) -> None:
    _, out, _ = run("chat", bundle, "--json", "--max-new-tokens", 2, stdin="//slash")
    assert json.loads(out)["messages"][0]["content"] == "/slash"


@pytest.mark.parametrize(
    ("typed", "turns"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\\\nb\\\n\nc", ["a\nb\n", "c"]),
        ('"""\na\n\n /exit\n"""\nb', ["a\n\n /exit", "b"]),
        ('"""a\nb""" ignored\nc', ["a\nb", "c"]),
        ('"""a"""', ["a"]),
        ('"""\nnever closed', ["never closed"]),
        ("at the end\\", ["at the end\n"]),
        ("", []),
    ],
)
def test_turns_of_several_lines(typed: str, turns: list[str]) -> None:
    lines: Iterator[str] = iter(typed.splitlines())

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    found = list(iter(lambda: read_turn(read), None))
    assert found == turns


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("/nonsense", "not known"),
        ("/save", "not known, or without what it needs"),
        ("/load /nowhere/x", "cannot be read"),
        (b"\xff\n", "line 1, byte 0 is not UTF-8"),
        ("a b " * 600, "do not fit the context"),
        ("/save /nowhere/x", "No such file"),
    ],
)
def test_an_error_over_a_pipe_ends_it(run: Run, bundle: Path, stdin: str | bytes, message: str) -> None:
    code, out, err = run("chat", bundle, stdin=stdin)
    assert code == 1 and out == "" and message in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{", "3", '{"messages": 3}', "[3]", '[{"role": 3}]', "[" * 100_000, "\x00"])
def test_a_file_that_is_no_conversation_is_refused(run: Run, bundle: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "history"
    path.write_text(content)
    code, _, err = run("chat", bundle, "--load", path, stdin="Hi")
    assert code == 1 and err.startswith("edgeslm: ") and "Traceback" not in err


def test_a_bundle_without_a_template(run: Run, make_chat_bundle: Any) -> None:
    plain = make_chat_bundle(template=None)
    for arguments in (("chat", plain), ("run", plain, "Hi", "--chat")):
        code, out, err = run(*arguments, stdin="Hi")
        assert code == 1 and out == "" and "no chat template" in err


def test_run_with_a_chat_template(run: Run, bundle: Path) -> None:
    for given, system in ((["--chat"], None), (["--system", "x"], "x"), (["--chat", "--system", ""], "")):
        code, out, _ = run("run", bundle, "Hi", "--max-new-tokens", 6, *given)
        assert code == 0 and out == answers(bundle, "Hi", system=system, max_new_tokens=6)[0] + "\n"


def test_a_prompt_cache_is_written_then_used(run: Run, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    given = ("--system", "The little cat sat on the mat.", "--prompt-cache", cache, "--max-new-tokens", 4, "--json")
    found, times = [], []
    for question in ("Hi", "Hi", "Ho, and so on"):
        code, out, err = run("run", bundle, question, *given)
        assert (code, err) == (0, "")
        found.append(json.loads(out))
        times.append(cache.stat().st_mtime_ns)
    assert times[0] == times[1] == times[2]
    assert all(result["timings"]["cached_tokens"] > 10 for result in found)
    plain = [a for a in given if a not in ("--prompt-cache", cache)]
    assert [r["tokens"] for r in found] == [
        json.loads(run("run", bundle, q, *plain)[1])["tokens"] for q in ("Hi", "Hi", "Ho, and so on")
    ]


def test_a_prompt_cache_that_does_not_fit_is_replaced_with_a_note(run: Run, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    given = ("--prompt-cache", cache, "--max-new-tokens", 4)
    cache.write_bytes(b"nonsense" * 20)
    code, first, err = run("run", bundle, "The little cat sat", *given)
    assert code == 0 and "is not a saved session; computing it anew" in err
    code, _, err = run("run", bundle, "你好, 你好", *given)
    assert code == 0 and "holds another prompt; computing it anew" in err
    assert run("run", bundle, "The little cat sat", *given)[1] == first
    raw = cache.read_bytes()
    cache.write_bytes(raw[:-9])
    code, out, err = run("run", bundle, "The little cat sat", *given)
    assert (code, out) == (0, first) and "damaged" in err
    code, _, err = run("run", bundle, "x", "--prompt-cache", tmp_path / "no" / "folder")
    assert code == 1 and "cannot be written" in err


def test_chat_keeps_its_system_message_in_a_prompt_cache(run: Run, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    given = ("--system", "The little cat sat on the mat.", "--prompt-cache", cache, "--max-new-tokens", 4, "--json")
    first, second = (json.loads(run("chat", bundle, *given, stdin="Hi\nHo\n")[1]) for _ in range(2))
    assert first["messages"] == second["messages"]
    assert second["results"][0]["timings"]["cached_tokens"] > 10
    code, _, err = run("chat", bundle, "--prompt-cache", cache, stdin="Hi")
    assert code == 2 and "--system" in err


def test_ctrl_c_at_the_prompt_leaves_when_it_comes_twice(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed: list[Any] = [KeyboardInterrupt, "Hi", KeyboardInterrupt, "", KeyboardInterrupt, KeyboardInterrupt, "never"]

    def read(prompt: str) -> str:
        found = typed.pop(0)
        if found is KeyboardInterrupt:
            raise KeyboardInterrupt
        return str(found)

    monkeypatch.setattr(chat_command, "line_reader", lambda interactive: read)
    with edgeslm.load(bundle) as model, model.chat() as chat:
        talk = chat_command.Talk(chat, {"max_new_tokens": 2}, partial(chat_command._print, False))
        assert talk.run(interactive=True) == 130
        assert typed == ["never"] and len(chat.messages) == 2
        typed[:] = [KeyboardInterrupt]
        assert talk.run(interactive=False) == 130
    assert capsys.readouterr().err.count("Ctrl-C again") == 3


def test_an_interrupt_while_printing_keeps_the_answer(bundle: Path) -> None:
    @contextmanager
    def show() -> Iterator[Callable[[str], None]]:
        printed: list[str] = []

        def write(piece: str) -> None:
            printed.append(piece)
            if len(printed) == 1:
                raise KeyboardInterrupt

        yield write

    with edgeslm.load(bundle) as model, model.chat() as chat:
        talk = chat_command.Talk(chat, {"max_new_tokens": 50}, show)
        talk._answer("Hi")
        assert [m["role"] for m in chat.messages] == ["user", "assistant"]
        assert talk.results[0].finish_reason == "cancelled"
        assert chat.messages[1]["content"] == talk.results[0].text != ""


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = os.openpty()
        command = [sys.executable, "-m", "edgeslm", *map(str, arguments)]
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in what a shell runs behind it
        )
        os.close(slave)
        self.seen = ""

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern comes; what it matched is returned, and left out of what is seen next."""
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, f"{pattern!r} does not come: {self.seen!r}"
            if select.select([self._master], [], [], 1)[0]:
                try:
                    self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
                except OSError:  # the process has ended
                    assert re.search(pattern, self.seen), self.seen
        self.seen = self.seen[found.end() :]
        return found.group()

    def settle(self) -> None:
        """Read until nothing has come for a second, and forget it."""
        while select.select([self._master], [], [], 1)[0]:
            os.read(self._master, 65536)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self._master)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_on_a_terminal(bundle: Path) -> None:
    """Errors do not end it, and Ctrl-C stops an answer only."""
    terminal = Terminal("chat", bundle, "--engine", "reference", "--max-new-tokens", 400)
    terminal.wait_for("Ctrl-D leaves")
    terminal.wait_for("> ")
    terminal.type("/nonsense\n")
    terminal.wait_for("not known")
    terminal.wait_for("> ")
    terminal.settle()  # what is typed before readline has set the terminal is echoed twice, like an answer
    terminal.type("Hi\n")
    terminal.wait_for("Hi\r?\n.")  # the echo, and the first piece of the answer
    terminal.interrupt()
    terminal.wait_for(r"\(stopped\)")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_the_end_of_input_leaves_a_terminal(bundle: Path) -> None:
    terminal = Terminal("chat", bundle, "--markdown", "--max-new-tokens", 3)
    terminal.wait_for("> ")
    terminal.type("Hi\n")
    terminal.wait_for("Hi\r?\n")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
