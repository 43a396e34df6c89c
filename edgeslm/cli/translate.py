"""``edgeslm translate``: text, Markdown, subtitles and HTML, offline."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeslm.cli.options import engine_option, json_option, threads_option
from edgeslm.cli.output import print_json, progress
from edgeslm.errors import ArgumentError

if TYPE_CHECKING:
    from edgeslm.translation.formats import Format
    from edgeslm.translation.translator import Translator

FORMATS = ("text", "markdown", "html", "srt")


@click.command(short_help="Translate text, Markdown, subtitles or HTML, offline.")
@click.argument("text")
@click.option("--from", "source", metavar="LANG", help="Language of the text; default: detected, or the only one.")
@click.option("--to", "target", metavar="LANG", help="Language to translate to; default: the only one there is.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the translation of a file here.")
@click.option("--resume", is_flag=True, help="Go on with a translation to --out that was killed.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: what the file's name tells, else text.")
@click.option("--beams", "--beam", type=click.IntRange(1, 16), default=1, show_default=True, help="Ways compared.")
@click.option("--alternatives", type=click.IntRange(0, 15), default=0, metavar="N", help="N other translations too.")
@click.option("--model", type=click.Path(path_type=Path), metavar="BUNDLE", help="Default: the embedded model.")
@engine_option
@threads_option
@json_option
def command(
    text: str,
    source: str | None,
    target: str | None,
    out: Path | None,
    resume: bool,
    form: Format | None,
    beams: int,
    alternatives: int,
    model: Path | None,
    engine: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Translate TEXT, or the FILE of that name, or what comes from stdin (-).

    Markup, placeholders, numbers, paragraphs and line breaks are kept. With --out the translation appears once it is
    complete; until then a hidden file beside it holds what is done.

    \b
    edgeslm translate "Where is the train station?" --to de
    edgeslm translate README.md --from en --to de -o LIESMICH.md
    edgeslm translate film.en.srt --from en --to de -o film.de.srt --beams 4
    echo "I need new shoes." | edgeslm translate - --from en --to de --json
    """
    path = _file(text)
    if out is not None and path is None:
        raise click.UsageError(f"--out: expected a file to translate, and {text[:60]!r} is none")
    if out is None and resume:
        raise click.UsageError("--resume: only with --out, where the translation is to go on")
    if out is not None and alternatives:
        raise click.UsageError("--alternatives: not with --out")
    from edgeslm.translation.files import translate_file
    from edgeslm.translation.translator import Translator

    with Translator.load(model, engine=engine, threads=threads) as translator:
        if path is not None and out is not None:
            with progress() as show:
                report = translate_file(
                    translator, path, out, source, target, format=form, beams=beams, resume=resume, progress=show
                )
            if as_json:
                print_json({**dataclasses.asdict(report), "out": str(out)})
            return 0
        _print(translator, path, text, source, target, form, beams, alternatives, as_json)
    return 0


def _file(text: str) -> Path | None:
    """The file of this name; None where it is the text itself, or "-"."""
    try:
        path = Path(text)
        if path.is_file():
            return path
    except (OSError, ValueError):  # too long, or no name at all
        return None
    from edgeslm.translation.formats import format_of

    if format_of(path) != "text" and not any(map(str.isspace, text)):
        raise ArgumentError(f"{text}: no such file")
    return None


def _print(
    translator: Translator,
    path: Path | None,
    text: str,
    source: str | None,
    target: str | None,
    form: Format | None,
    beams: int,
    alternatives: int,
    as_json: bool,
) -> None:
    from edgeslm.translation.files import decode, read_text
    from edgeslm.translation.formats import format_of

    if path is not None:
        text, form = read_text(path), form or format_of(path)
    elif text == "-":
        text = decode(sys.stdin.buffer.read(), "stdin")
    form = form or "text"
    if as_json or alternatives:
        found = translator.translate(text, source, target, format=form, beams=beams, alternatives=alternatives)
        if as_json:
            print_json(dataclasses.asdict(found))
        else:
            click.echo("\n".join([found.text, *found.alternatives]))
        return
    last = ""
    for last in translator.stream(text, source, target, format=form, beams=beams):
        click.echo(last, nl=False)
        sys.stdout.flush()
    if not last.endswith("\n"):
        click.echo()
