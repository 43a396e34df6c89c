"""The command line: one file per verb, imported when the verb is called.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 verification failed, 130 interrupted. With ``--json`` stdout holds one
JSON value: the result, or ``{"error": {"type", "message"}}`` when there is none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from edgeslm._version import __version__
from edgeslm.cli.output import print_json
from edgeslm.errors import EdgeslmError

VERBS = ("convert", "verify", "inspect", "run", "chat", "translate", "bench", "plan", "doctor", "demo")
ERROR, USAGE, INTERRUPTED = 1, 2, 130


class Verbs(click.Group):
    """The verbs, each from the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"edgeslm.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; a reader that closes the pipe, such as head, has what it wanted."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit's flush would complain
            return 0


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgeslm")
def edgeslm() -> None:
    """Convert small language models, verify them, and run them offline.

    \b
    edgeslm demo                                        everything once, on the embedded model
    edgeslm convert ./SmolLM2-135M ./smol --quantize int4
    edgeslm run ./smol "Once upon a time"
    edgeslm chat ./smol --system "Be brief."
    edgeslm translate "Where is the train station?" --from en --to de

    Each command explains itself: edgeslm COMMAND --help. EDGESLM_DEBUG=1 shows tracebacks.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that lacks a character still shows the rest
    logging.basicConfig(level=logging.WARNING, format="edgeslm: %(message)s")  # to stderr
    logging.getLogger("huggingface_hub").propagate = False  # it prints its warnings itself
    as_json = "--json" in arguments
    try:
        return int(edgeslm.main(arguments, prog_name="edgeslm", standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.Abort):
        return _fail(INTERRUPTED, "interrupted", "Interrupted", as_json)
    except click.ClickException as error:
        error.show()
        return _fail(USAGE, "", type(error).__name__, as_json, error.format_message())
    except Exception as error:
        if os.environ.get("EDGESLM_DEBUG"):
            raise
        return _fail(ERROR, _sentence(error), type(error).__name__, as_json)


def _sentence(error: Exception) -> str:
    """One line that says what to do."""
    message = " ".join(str(error).split())
    if isinstance(error, EdgeslmError):
        return message
    if isinstance(error, MemoryError) or "failed to map segment" in message:  # the latter: the loader's, of a library
        return "not enough memory: give this process more, or take a smaller model or fewer threads"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {message}; EDGESLM_DEBUG=1 shows where, please report it"


def _fail(code: int, line: str, kind: str, as_json: bool, message: str = "") -> int:
    if line:
        click.echo(f"edgeslm: {line}", err=True)
    if as_json:
        print_json({"error": {"type": kind, "message": message or line}})
    return code
