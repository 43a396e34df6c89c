"""Files translated whole: a file that is read once, a journal of what is done, and an output that is there or not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edgeslm.errors import ArgumentError
from edgeslm.files import replacing
from edgeslm.log import logger
from edgeslm.translation.formats import Format, format_of
from edgeslm.translation.translator import Stream, Translator

Progress = Callable[[str, int, int], None]
MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class FileReport:
    """What was done."""

    source: str
    target: str
    pieces: int  # sentences, and what stands between them
    resumed: int  # of them had been translated before
    confidence: float  # of the sentence that the model was least sure of, of those translated now
    kept: int  # of the sentences translated now were left as they are


def read_text(path: Path) -> str:
    """A text file, line ends as they are.

    Raises:
        ArgumentError: it cannot be read, or is no UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ArgumentError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; translate it in parts")
    return decode(raw, str(path))


def decode(raw: bytes, where: str) -> str:
    """Bytes as text.

    Raises:
        ArgumentError: they are something else.
    """
    if b"\0" in raw[: 1 << 16]:
        raise ArgumentError(f"{where}: is no text (it holds zero bytes); expected UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{where}: byte {error.start} is not UTF-8; convert the text to UTF-8 first") from None


def translate_file(
    translator: Translator,
    path: Path,
    out: Path,
    source: str | None = None,
    target: str | None = None,
    *,
    format: Format | None = None,
    beams: int = 1,
    min_confidence: float = 0.0,
    rerank: bool = False,
    resume: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> FileReport:
    """Translate a file into another, which appears once it is complete.

    Until then a hidden journal beside ``out`` holds what is done; ``resume`` goes on from there after a run that was
    killed. A file that changes meanwhile is translated as it was at the beginning, and a warning says so.

    Args:
        format: by default, what the name of the file tells.
        beams, min_confidence, rerank: as :meth:`Translator.translate` takes them.
        progress: called with what is running, pieces done and pieces in all.

    Raises:
        ArgumentError: as :meth:`Translator.translate`; the file is no text; or there is another file's journal.
    """
    text = read_text(path)
    form = format or format_of(path)

    def translate(source: str | None, target: str | None, skip: int = 0) -> Stream:
        return translator.stream(
            text, source, target, format=form, beams=beams, min_confidence=min_confidence, rerank=rerank, skip=skip
        )

    stream = translate(source, target)
    job = {"text": _digest(text), "from": stream.source, "to": stream.target, "format": form, "beams": beams}
    job |= {"min_confidence": min_confidence, "rerank": rerank}
    job["model"] = translator.fingerprint(stream.source, stream.target, rerank)
    journal = out.with_name(f".{out.name}.translating")
    pieces = _read_journal(journal, job) if resume else []
    resumed = len(pieces)
    stream = translate(stream.source, stream.target, skip=resumed)
    with _journal(journal, job, pieces) as write:
        for piece in stream:
            pieces.append(piece)
            write(piece)
            progress("translating", len(pieces), stream.total)
    with replacing(out) as file:
        file.write("".join(pieces).encode("utf-8", "surrogatepass"))
    journal.unlink(missing_ok=True)
    if _digest(read_text(path)) != job["text"]:
        logger("translate").warning("%s: changed meanwhile; %s translates what it was at the beginning", path, out)
    return FileReport(stream.source, stream.target, len(pieces), resumed, stream.tally.confidence, stream.tally.kept)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read_journal(path: Path, job: dict[str, object]) -> list[str]:
    """The pieces that a run of the same job has left; a line that was cut off is not one."""
    try:
        with path.open("rb") as file:
            lines = file.read(4 * MAX_BYTES).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        found, *pieces = [json.loads(line) for line in lines] or [None]
    except (ValueError, RecursionError):
        found, pieces = None, []
    if found != job or not all(isinstance(piece, str) for piece in pieces):
        raise ArgumentError(
            f"{path}: was left by the translation of another text, or with other settings: translate without --resume"
        )
    return pieces


@contextmanager
def _journal(path: Path, job: dict[str, object], pieces: list[str]) -> Iterator[Callable[[str], None]]:
    """A journal that begins with these pieces, and a function that adds one."""
    try:
        with path.open("w", encoding="ascii") as file:

            def write(piece: object) -> None:
                _write(file, piece)

            write(job)
            for piece in pieces:
                write(piece)
            yield write
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be written ({error.strerror})") from None


def _write(file: TextIO, value: object) -> None:
    """One line, at once in the hands of the operating system."""
    file.write(json.dumps(value) + "\n")
    file.flush()
