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
    from collections.abc import Iterable

    from edgeslm.translation.files import FileReport
    from edgeslm.translation.formats import Format
    from edgeslm.translation.rendering import Tally
    from edgeslm.translation.translator import Translation

FORMATS = ("text", "markdown", "html", "srt")


@click.command(short_help="Translate text, Markdown, subtitles or HTML, offline.")
@click.argument("text")
@click.option(
    "--from", "source", metavar="LANG", help="Language of the text; default: what it tells, or what leads there."
)
@click.option("--to", "target", metavar="LANG", help="Language to translate to; default: the only one from there.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the translation of a file here.")
@click.option("--resume", is_flag=True, help="Go on with a translation to --out that was killed.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: what the file's name tells, else text.")
@click.option(
    "--beams",
    "--beam",
    type=click.IntRange(1, 16),
    help="Ways compared; default: 4 for TEXT, 1, which is fast, for a file and stdin.",
)
@click.option(
    "--rerank",
    is_flag=True,
    help="Let all models that have the pair, or lead back, choose: for several --model; slower.",
)
@click.option("--alternatives", type=click.IntRange(0, 15), default=0, metavar="N", help="N other translations too.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Leave sentences as they are of which the model is less sure.",
)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="BUNDLE",
    help="Default: the embedded ones. Several may lead from a language to another.",
)
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
    beams: int | None,
    rerank: bool,
    alternatives: int,
    min_confidence: float,
    models: tuple[Path, ...],
    engine: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Translate TEXT, or the FILE of that name, or what comes from stdin (-).

    Markup, placeholders, numbers, paragraphs and line breaks are kept. With --out the translation appears once it is
    complete; until then a hidden file beside it holds what is done. Where the model is unsure, a note says so.
    A TEXT is translated as well as can be, files and stdin fast: --beams 4 has them translated as well.

    \b
    edgeslm translate "Where is the train station?" --to de
    edgeslm translate "Wo ist der Bahnhof?" --to en
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
    typed = path is None and text != "-"
    beams = (4 if typed else 1) if beams is None else beams
    from edgeslm.translation.files import translate_file
    from edgeslm.translation.translator import Translator

    with Translator.load(models or None, engine=engine, threads=threads) as translator:
        if path is not None and out is not None:
            with progress() as show:
                report = translate_file(
                    translator,
                    path,
                    out,
                    source,
                    target,
                    format=form,
                    beams=beams,
                    min_confidence=min_confidence,
                    rerank=rerank,
                    resume=resume,
                    progress=show,
                )
            if as_json:
                print_json({**dataclasses.asdict(report), "out": str(out)})
            _note(report, min_confidence)
            return 0
        content, form = _read(path, text, form)
        if as_json or alternatives:
            found = translator.translate(
                content,
                source,
                target,
                format=form,
                beams=beams,
                alternatives=alternatives,
                min_confidence=min_confidence,
                rerank=rerank,
            )
            if as_json:
                print_json(dataclasses.asdict(found))
            else:
                click.echo("\n".join([found.text, *found.alternatives]))
            _note(found, min_confidence)
            return 0
        stream = translator.stream(
            content, source, target, format=form, beams=beams, min_confidence=min_confidence, rerank=rerank
        )
        _print(stream)
        _note(stream.tally, min_confidence)
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


def _read(path: Path | None, text: str, form: Format | None) -> tuple[str, Format]:
    """What is to be translated, and its format."""
    from edgeslm.translation.files import decode, read_text
    from edgeslm.translation.formats import format_of

    if path is not None:
        return read_text(path), form or format_of(path)
    return decode(sys.stdin.buffer.read(), "stdin") if text == "-" else text, form or "text"


def _print(pieces: Iterable[str]) -> None:
    last = ""
    for last in pieces:
        click.echo(last, nl=False)
        sys.stdout.flush()
    if not last.endswith("\n"):
        click.echo()


def _note(found: Tally | Translation | FileReport, asked: float) -> None:
    """Say on stderr where the model was not sure."""
    from edgeslm.translation.translator import UNSURE

    if found.kept:
        are = "1 sentence is" if found.kept == 1 else f"{found.kept} sentences are"
        click.echo(f"edgeslm: {are} left untranslated: the model's confidence was below {asked:g}", err=True)
    elif not asked and found.confidence < UNSURE:
        click.echo(
            f"edgeslm: the model was unsure (confidence {found.confidence:.2f}) and may have invented something; "
            f"--min-confidence {UNSURE} leaves such sentences untranslated",
            err=True,
        )
