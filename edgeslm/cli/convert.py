"""``edgeslm convert``: a checkpoint into a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeslm.cli.options import json_option, separated, threads_option
from edgeslm.cli.output import print_json, print_verification, progress, size


@click.command(short_help="Convert a checkpoint into a bundle, and verify it.")
@click.argument("source", metavar="SRC")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to", type=separated(str), metavar="TARGETS", default="onnx", show_default=True, help="onnx, litert, coreml."
)
@click.option(
    "--quantize",
    type=click.Choice(["none", "fp16", "int8", "int4"]),
    default="int8",
    show_default=True,
    help="How the weights are stored.",
)
@click.option(
    "--group-size",
    type=click.Choice(["32", "64", "128"]),
    default="32",
    show_default=True,
    help="Weights that share a scale (int8, int4).",
)
@click.option("--embed", type=click.Choice(["int4", "int8"]), help="The embedding's own level (with int8, int4).")
@click.option("--context", type=click.IntRange(min=1), help="Tokens of context; default: the model's, at most 4096.")
@click.option("--verify/--no-verify", "check", default=True, help="Compare with the original; on by default.")
@threads_option
@json_option
def command(
    source: str,
    out: Path,
    to: list[str],
    quantize: str,
    group_size: str,
    embed: str | None,
    context: int | None,
    check: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Convert the checkpoint SRC into the bundle OUT, and verify it.

    SRC is a Hugging Face checkpoint folder (config.json, *.safetensors, tokenizer.json), or org/name on the Hub. OUT is
    a new folder, or a bundle of the same model, which gets a further target or has one replaced. A bundle that differs
    too much from the original is written with a warning; edgeslm verify is the gate, and fails on it.

    \b
    edgeslm convert ./SmolLM2-135M-Instruct ./smol
    edgeslm convert ./Llama-3.2-1B ./llama --quantize int4 --embed int8 --context 2048
    """
    from edgeslm.converters.convert import convert
    from edgeslm.converters.policy import Options

    options = Options(quantize, int(group_size), embed)
    with progress() as show:
        report = convert(
            source, out, to=to, options=options, context=context, check=check, threads=threads, progress=show
        )
    files = {name: entry.bytes for name, entry in report.manifest.files.items()}
    verification = report.verification.to_json() if report.verification else None
    if as_json:
        targets: dict[str, Any] = {name: t.settings for name, t in report.manifest.targets.items()}
        print_json({"bundle": str(out), "files": files, "targets": targets, "verification": verification})
    else:
        click.echo(f"{out}: {len(files)} files, {size(sum(files.values()))}")
        if verification:
            print_verification(verification["targets"])
    if report.verification and not report.verification.passed:
        advice = "try another --quantize, --group-size or --embed"
        click.echo(f"edgeslm: warning: {out} differs too much from the original and fails verify: {advice}", err=True)
