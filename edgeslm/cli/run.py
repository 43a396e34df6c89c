"""``edgeslm run``: complete a prompt, streaming."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
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
    logprobs_option,
    threads_option,
)
from edgeslm.cli.output import print_json
from edgeslm.cli.prompt_cache import cached_prefix, prompt_cache_option
from edgeslm.errors import ArgumentError

if TYPE_CHECKING:
    from edgeslm.generation.loop import Generation


@click.command(short_help="Complete a prompt.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option("--chat", is_flag=True, help="PROMPT is a user's message, written as the model's chat template says.")
@click.option("--system", metavar="TEXT", help="With a system message before it; implies --chat.")
@prompt_cache_option
@generation_options
@logprobs_option
@engine_option
@threads_option
@force_option
@kv_dtype_option
@json_option
def command(
    bundle: Path,
    prompt: str,
    chat: bool,
    system: str | None,
    prompt_cache: Path | None,
    engine: str,
    threads: int | None,
    force: bool,
    kv_dtype: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Complete PROMPT with BUNDLE and print the completion as it comes.

    PROMPT is raw text; - reads it from stdin (UTF-8, less one line break at its end). Options left out follow the
    model's generation_config.json. Ctrl-C ends the completion; what has come is kept.

    \b
    edgeslm run ./smol "Once upon a time" --max-new-tokens 64
    edgeslm run ./smol "Once upon a time" --temp 0.7 --top-p 0.9 --seed 1
    edgeslm run ./smol "What is a fox?" --chat --system "Be brief." --prompt-cache ./brief.cache
    edgeslm run ./smol "Q: What is a fox?" --stop "Q:" --repetition-penalty 1.1 --min-p 0.05 --temp 1
    echo "The capital of France is" | edgeslm run ./smol - --json
    """
    import edgeslm
    from edgeslm.meter import Meter

    text = _from_stdin() if prompt == "-" else prompt
    with ExitStack() as stack:
        model = stack.enter_context(
            edgeslm.load(bundle, engine=engine, threads=threads, force=force, kv_dtype=kv_dtype)
        )
        if chat or system is not None:
            ids = model.prompts.ids(None, _messages(system, text), {})
        else:
            ids = model.prompts.ids(text, None, {})
        prefix = None
        if prompt_cache is not None:
            prefix = stack.enter_context(cached_prefix(model, ids, prompt_cache))
        meter = Meter()
        meter.start()
        stack.callback(meter.stop)
        generation = model.stream(ids, prefix=prefix, **generation_arguments(options))
        interrupted, shown = _show(generation, quiet=as_json)
        result, usage = generation.result(), meter.stop()
    if as_json:
        energy = {**dataclasses.asdict(usage), "tok_j": usage.per_joule(len(result.tokens))}
        print_json({**dataclasses.asdict(result), "energy": energy})
    else:
        click.echo(result.text[shown:])  # what a stop string withheld when it was interrupted
    if interrupted:
        click.echo("edgeslm: interrupted", err=True)
    return INTERRUPTED if interrupted else 0


def _messages(system: str | None, text: str) -> list[dict[str, str]]:
    begin = [] if system is None else [{"role": "system", "content": system}]
    return [*begin, {"role": "user", "content": text}]


def _show(generation: Generation, quiet: bool) -> tuple[bool, int]:
    """Print the pieces as they come; returns whether the user interrupted it, and how many characters were printed."""
    shown = 0
    try:
        for piece in generation:
            if not quiet:
                click.echo(piece, nl=False)
                shown += len(piece)
    except KeyboardInterrupt:
        return True, shown
    return False, shown


def _from_stdin() -> str:
    raw = sys.stdin.buffer.read()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"stdin: byte {error.start} is not UTF-8; convert the text to UTF-8 first") from None
    return text.removesuffix("\n").removesuffix("\r")
