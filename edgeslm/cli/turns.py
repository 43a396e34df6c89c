"""What the user of ``edgeslm chat`` types or pipes in, turn by turn."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from edgeslm.errors import ArgumentError

PROMPT, MORE = "> ", "… "
QUOTES = '"""'

ReadLine = Callable[[str], str]  # shows a prompt; raises EOFError at the end


def read_turn(read_line: ReadLine) -> str | None:
    """One turn: a line; or more, while each ends with a backslash, or between triple quotes. None at the end."""
    try:
        line = read_line(PROMPT)
    except EOFError:
        return None
    if line.startswith(QUOTES):
        return _quoted(line[len(QUOTES) :], read_line)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(_next(read_line))
    return "\n".join(lines)


def _quoted(line: str, read_line: ReadLine) -> str:
    lines = [line]
    while QUOTES not in lines[-1]:
        try:
            lines.append(read_line(MORE))
        except EOFError:
            break  # as if it had been closed
    return "\n".join(lines).split(QUOTES)[0].removeprefix("\n").removesuffix("\n")


def _next(read_line: ReadLine) -> str:
    try:
        return read_line(MORE)
    except EOFError:
        return ""


def line_reader(interactive: bool) -> ReadLine:
    """Lines of a terminal, with editing and history where Python has them; or of a pipe, without a prompt."""
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (input() uses it)
        return input if sys.stdout.isatty() else _input_beside_a_pipe
    lines = _piped()

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return read


def _input_beside_a_pipe(prompt: str) -> str:
    """Python's own would put the prompt among the answers."""
    click.echo(prompt, nl=False, err=True)
    return input()


def _piped() -> Iterator[str]:
    for number, raw in enumerate(sys.stdin.buffer, 1):
        try:
            yield raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ArgumentError(
                f"stdin: line {number}, byte {error.start} is not UTF-8; convert the text to UTF-8 first"
            ) from None
