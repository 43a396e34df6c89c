"""``edgeslm verify``: does the bundle still compute what the original computes?"""

from __future__ import annotations

from pathlib import Path

import click

from edgeslm.cli.options import engine_option, json_option, threads_option
from edgeslm.cli.output import VERIFY_FAILED, print_json, print_verification, progress


@click.command(short_help="Compare a bundle with the original model.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--against", metavar="SRC", help="Recompute the original's answer from this checkpoint.")
@engine_option
@threads_option
@json_option
def command(bundle: Path, against: str | None, engine: str, threads: int | None, as_json: bool) -> int:
    """Hold every target of BUNDLE against the original model, on every engine that runs here.

    All files are hashed; then each target runs over a text for which the bundle holds the answer of the float32
    original. Exit code 3 if one differs too much, or if nothing could be verified.

    \b
    edgeslm verify ./smol
    edgeslm verify ./smol --engine native --json
    edgeslm verify ./smol --against ./SmolLM2-135M-Instruct
    """
    from edgeslm.bundle import Bundle
    from edgeslm.converters.reference_answer import NAME
    from edgeslm.converters.verify import Report, verify

    opened = Bundle.open(bundle, check="full")
    if against is None and not opened.has(NAME):
        click.echo(f"{bundle}: no {NAME} to compare with; name the original: --against SRC", err=True)
        report = Report({})
    else:
        only = None if engine == "auto" else engine
        with progress() as show:
            report = verify(opened, engine=only, against=against, threads=threads, progress=show)
    found = report.to_json()
    if as_json:
        print_json(found)
    else:
        print_verification(found["targets"], title=str(bundle))
        click.echo("passed" if report.passed else "FAILED" if found["targets"] else "FAILED: nothing was verified")
    return 0 if report.passed else VERIFY_FAILED
