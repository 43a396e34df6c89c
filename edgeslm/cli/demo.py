"""``edgeslm demo``: convert, verify and run the embedded translator."""

from __future__ import annotations

import importlib.util
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from edgeslm import embedded
from edgeslm.cli.options import engine_option, json_option, threads_option
from edgeslm.cli.output import (
    VERIFY_FAILED,
    Progress,
    print_json,
    print_table,
    print_verification,
    progress,
)

if TYPE_CHECKING:
    from edgeslm.api import Model

SENTENCES = (
    "I need new shoes.",
    "Where is the train station?",
    "The weather is nice today.",
    "How much does this book cost?",
    "We will meet tomorrow at eight o'clock.",
    "I don't know what to say.",
)


@click.command(short_help="Convert, verify and run the embedded translator.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the bundle here; default: a temporary folder.")
@engine_option
@threads_option
@json_option
def command(out: Path | None, engine: str, threads: int | None, as_json: bool) -> int:
    """Convert the embedded translator to int8 ONNX, verify it, and translate a few sentences.

    \b
    edgeslm demo
    edgeslm demo --out ./en-de && edgeslm run ./en-de "<s><2de> Thank you.<sep>"
    """
    _need_extra()
    folder: AbstractContextManager[str | Path] = tempfile.TemporaryDirectory() if out is None else nullcontext(out)
    with folder as bundle, progress() as show:
        found = _demo(Path(bundle), engine, threads, show)
    if as_json:
        print_json(found)
    else:
        targets = found["verification"]["targets"]
        print_verification(targets, title="int8 against the original")
        table = [(t["english"], t["german"], f"{t['decode_tok_s'] or 0:.0f}") for t in found["translations"]]
        print_table(("English", "German", "tok/s"), table, title=f"translated by the {found['engine']} engine")
    return 0 if found["verification"]["passed"] else VERIFY_FAILED


def _demo(bundle: Path, engine: str, threads: int | None, show: Progress) -> dict[str, Any]:
    from edgeslm.api import load
    from edgeslm.converters.convert import convert
    from edgeslm.converters.policy import Options

    start = perf_counter()
    report = convert(embedded.CHECKPOINT, bundle, options=Options("int8"), threads=threads, progress=show)
    convert_s = perf_counter() - start
    assert report.verification is not None  # convert verifies unless told not to
    with load(bundle, engine=engine, threads=threads) as model:
        translations = []
        for done, sentence in enumerate(SENTENCES, 1):
            translations.append(_translate(model, sentence))
            show("translating", done, len(SENTENCES))
        used = model.engine
    return {
        "convert_s": convert_s,
        "verification": report.verification.to_json(),
        "engine": used.name,
        "isa": used.isa,
        "threads": used.threads,
        "translations": translations,
    }


def _translate(model: Model, sentence: str) -> dict[str, Any]:
    """The model's own prompt form; its README says more."""
    result = model.generate(f"<s><2de> {sentence}<sep>", max_new_tokens=64)
    return {"english": sentence, "german": result.text.strip(), "decode_tok_s": result.timings.decode_tok_s}


def _need_extra() -> None:
    from edgeslm.errors import MissingExtraError

    for package in ("onnx", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("edgeslm demo", package, "convert")
