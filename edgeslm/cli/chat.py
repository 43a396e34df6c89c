"""``edgeslm chat``: a conversation in the terminal, or over a pipe."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeslm.cli import INTERRUPTED
from edgeslm.cli.options import (
    engine_option,
    force_option,
    generation_arguments,
    generation_options,
    json_option,
    kv_dtype_option,
    threads_option,
)
from edgeslm.cli.output import print_json
from edgeslm.cli.prompt_cache import cached_prefix, prompt_cache_option
from edgeslm.cli.turns import ReadLine, line_reader, read_turn
from edgeslm.errors import ArgumentError, EdgeslmError
from edgeslm.files import replacing

if TYPE_CHECKING:
    from edgeslm.chat import Chat
    from edgeslm.generation.options import GenerationArguments
    from edgeslm.generation.result import GenerationResult

HELP = """\
/help           this
/reset          begin again
/undo           take the last question back
/system TEXT    begin again with this system message
/save FILE      write the conversation, as JSON
/load FILE      go on with a conversation that was saved
/exit           leave; so do Ctrl-D and Ctrl-C

A line that ends with \\ goes on in the next one; so does everything between \"\"\" and \"\"\".
A line that begins with // is sent with one / less. Ctrl-C stops an answer and keeps what has come."""
MAX_FILE_BYTES = 64 << 20

Write = Callable[[str], None]  # shows a piece of an answer
Show = Callable[[], AbstractContextManager[Write]]


@click.command(short_help="Talk with a model.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--system", metavar="TEXT", help="The system message to begin with.")
@click.option("--load", "history", type=click.Path(path_type=Path), help="Go on with a conversation that /save wrote.")
@click.option("--markdown", is_flag=True, help="Draw the answers' Markdown, on a terminal.")
@prompt_cache_option
@generation_options
@engine_option
@threads_option
@force_option
@kv_dtype_option
@json_option
def command(
    bundle: Path,
    system: str | None,
    history: Path | None,
    markdown: bool,
    prompt_cache: Path | None,
    engine: str,
    threads: int | None,
    force: bool,
    kv_dtype: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Talk with BUNDLE, whose chat template writes the conversation. /help lists what can be typed.

    Answers come on stdout as they are made. Where stdin is no terminal, each line of it is a turn, and the first error
    ends the conversation. With --json the messages and results are printed at the end, and the answers on stderr.
    --prompt-cache keeps the computed system message. Options left out follow the model's generation_config.json.

    \b
    edgeslm chat ./smol --system "Be brief."
    edgeslm chat ./smol --temp 0.7 --seed 1 --markdown
    printf 'Hello\\nAnd in French?\\n' | edgeslm chat ./smol --json
    """
    import edgeslm

    if prompt_cache is not None and system is None:
        raise click.UsageError("--prompt-cache keeps the system message: give --system too")
    with ExitStack() as stack:
        model = stack.enter_context(
            edgeslm.load(bundle, engine=engine, threads=threads, force=force, kv_dtype=kv_dtype)
        )
        messages = [] if history is None else read_messages(history)
        if system is not None and messages and messages[0].get("role") == "system":
            del messages[0]  # the new one takes its place
        prefix = None
        if prompt_cache is not None:
            ids = model.prompts.beginning([{"role": "system", "content": system}], {})
            prefix = stack.enter_context(cached_prefix(model, ids, prompt_cache))
        chat = stack.enter_context(model.chat(system, messages=messages, prefix=prefix))
        talk = Talk(chat, generation_arguments(options), _printer(as_json, markdown))
        code = talk.run(interactive=sys.stdin.isatty())
        if as_json:
            print_json({"messages": chat.messages, "results": [dataclasses.asdict(r) for r in talk.results]})
    return code


class Talk:
    """The loop: a turn is read, and obeyed or answered."""

    def __init__(self, chat: Chat, arguments: GenerationArguments, show: Show) -> None:
        self._chat, self._arguments, self._show = chat, arguments, show
        self._leaving = self._stopped = False
        self.results: list[GenerationResult] = []

    def run(self, interactive: bool) -> int:
        """Until the user leaves; returns the exit code."""
        read_line = line_reader(interactive)
        if interactive:
            _note("/help lists what can be typed; Ctrl-D leaves")
        while not self._leaving:
            try:
                self._read_turn(read_line, interactive)
            except KeyboardInterrupt:
                if self._stopped or not interactive:
                    _note("")
                    return INTERRUPTED
                self._stopped = True  # another one leaves
                _note("\nCtrl-C again, Ctrl-D or /exit leaves")
            if self._stopped and not interactive:
                return INTERRUPTED
        return 0

    def _read_turn(self, read_line: ReadLine, interactive: bool) -> None:
        text = read_turn(read_line)
        self._stopped = False
        if text is None:
            self._leaving = True
            if interactive:
                _note("")
            return
        try:
            self._turn(text)
        except (EdgeslmError, OSError) as error:
            if not interactive:
                raise
            _note(f"edgeslm: {' '.join(str(error).split())}")

    def _turn(self, text: str) -> None:
        if text.startswith("/") and not text.startswith("//"):
            name, _, argument = text[1:].partition(" ")
            self._obey(name, argument.strip())
        elif text.strip():
            self._answer(text[1:] if text.startswith("//") else text)

    def _answer(self, text: str) -> None:
        reply, shown = self._chat.stream(text, **self._arguments), 0
        with self._show() as write:
            try:
                for piece in reply:
                    shown += len(piece)
                    write(piece)
            except KeyboardInterrupt:
                self._stopped = True
            result = reply.result()
            write(result.text[shown:])  # what a stop string withheld when it was interrupted
        if self._stopped:
            _note("(stopped)")
        self.results.append(result)

    def _obey(self, name: str, argument: str) -> None:
        chat = self._chat
        if name in ("exit", "quit"):
            self._leaving = True
        elif name == "help":
            _note(HELP)
        elif name == "reset":
            chat.reset()
        elif name == "undo":
            chat.undo()
        elif name == "system" and argument:
            chat.reset([{"role": "system", "content": argument}])
        elif name == "save" and argument:
            write_messages(Path(argument), chat.messages)
            _note(f"{len(chat.messages)} messages written to {argument}")
        elif name == "load" and argument:
            chat.reset(read_messages(Path(argument)))
            _note(f"{len(chat.messages)} messages read from {argument}")
        else:
            raise ArgumentError(f"/{name[:20]}: not known, or without what it needs; /help lists the commands")


def _printer(as_json: bool, markdown: bool) -> Show:
    if markdown and not as_json and sys.stdout.isatty():
        return _draw
    return partial(_print, as_json)


@contextmanager
def _print(to_stderr: bool) -> Iterator[Write]:
    try:
        yield partial(click.echo, nl=False, err=to_stderr)
    finally:
        click.echo(err=to_stderr)


@contextmanager
def _draw() -> Iterator[Write]:
    from rich.console import Console
    from rich.live import Live
    from rich.markdown import Markdown

    text = ""
    with Live(console=Console(), vertical_overflow="visible") as live:

        def write(piece: str) -> None:
            nonlocal text
            text += piece
            live.update(Markdown(text))

        yield write


def _note(text: str) -> None:
    click.echo(text, err=True)


def read_messages(path: Path) -> list[dict[str, Any]]:
    """A conversation that was saved: a JSON list of messages, or an object that has one.

    Raises:
        ArgumentError: it is something else, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        found = json.loads(raw.decode("utf-8")) if len(raw) <= MAX_FILE_BYTES else None
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        found = None
    messages = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ArgumentError(f"{path}: expected a JSON list of messages, as /save writes it")
    return messages


def write_messages(path: Path, messages: list[dict[str, Any]]) -> None:
    """Save a conversation; an old file is replaced whole.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(json.dumps(messages, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
