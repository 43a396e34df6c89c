"""``edgeslm run``: complete a prompt, streaming."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from edgeslm.cli.options import engine_option, json_option, number, threads_option
from edgeslm.cli.output import print_json
from edgeslm.errors import ArgumentError
from edgeslm.generation.options import MAX_SEED


@click.command(short_help="Complete a prompt.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option("--max-new-tokens", "--max-tokens", type=click.IntRange(min=1), help="At most so many; default: 256.")
@click.option(
    "--temperature", "--temp", type=number(), metavar="NUMBER", help="0: the most likely token; above: sampled."
)
@click.option("--top-k", type=click.IntRange(min=0), help="Sample among the k most likely tokens; 0: all.")
@click.option(
    "--top-p", type=number(1.0), metavar="NUMBER", help="Sample among the likeliest holding this probability."
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), help="The same seed gives the same text.")
@engine_option
@threads_option
@json_option
def command(bundle: Path, prompt: str, engine: str, threads: int | None, as_json: bool, **sampling: Any) -> None:
    """Complete PROMPT with BUNDLE and print the completion as it comes.

    PROMPT is raw text; - reads it from stdin (UTF-8, less one line break at its end). Options left out follow the
    model's generation_config.json.

    \b
    edgeslm run ./smol "Once upon a time" --max-new-tokens 64
    edgeslm run ./smol "Once upon a time" --temp 0.7 --top-p 0.9 --seed 1
    echo "The capital of France is" | edgeslm run ./smol - --json
    """
    import edgeslm

    text = _from_stdin() if prompt == "-" else prompt
    with edgeslm.load(bundle, engine=engine, threads=threads) as model:
        if as_json:
            print_json(dataclasses.asdict(model.generate(text, **sampling)))
            return
        with closing(model.stream(text, **sampling)) as stream:
            for piece in stream:
                click.echo(piece, nl=False)
        click.echo()


def _from_stdin() -> str:
    raw = sys.stdin.buffer.read()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"stdin: byte {error.start} is not UTF-8; convert the text to UTF-8 first") from None
    return text.removesuffix("\n").removesuffix("\r")
