"""``edgeslm bench``: tokens per second and memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from edgeslm.cli.options import THREADS, engine_name, json_option, separated
from edgeslm.cli.output import print_json, print_table, size
from edgeslm.errors import EngineError

COLUMNS = ("engine", "isa", "threads", "prefill tok/s", "decode tok/s", "first token", "load", "peak RSS", "anonymous")


@click.command(short_help="Measure speed and memory.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-p", "prompt", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens of the prompt.")
@click.option("-n", "new", type=click.IntRange(min=1), default=64, show_default=True, help="Decode steps.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=3, show_default=True, help="Runs; medians count.")
@click.option(
    "--engine",
    "engines",
    type=separated(engine_name),
    metavar="NAMES",
    default="auto",
    help="One, or several: native,onnxruntime,litert.",
)
@click.option(
    "--threads",
    type=separated(THREADS),
    metavar="COUNTS",
    help="One count, or several: 1,2,4. Default: all usable CPUs.",
)
@json_option
def command(
    bundle: Path, prompt: int, new: int, repeat: int, engines: list[str], threads: list[int] | None, as_json: bool
) -> None:
    """Measure BUNDLE: prefill and decode speed, time to the first token, load time, memory.

    Several engines or thread counts are measured in every combination, each in a process of its own. With --json one
    combination gives an object, several a list.

    \b
    edgeslm bench ./smol
    edgeslm bench ./smol -p 256 -n 64 --engine native,onnxruntime --threads 1,2 --json
    """
    counts: list[int | None] = [*threads] if threads else [None]
    combinations = [(engine, count) for engine in engines for count in counts]
    sizes = {"-p": prompt, "-n": new, "--repeat": repeat}
    if len(combinations) == 1:
        from edgeslm.benchmark import benchmark

        [(engine, count)] = combinations
        measured = benchmark(bundle, engine, count, prompt=prompt, new=new, repeat=repeat)
        results = [dataclasses.asdict(measured)]
    else:
        results = [_in_own_process(bundle, engine, count, sizes) for engine, count in combinations]
    if as_json:
        print_json(results[0] if len(combinations) == 1 else results)
        return
    print_table(COLUMNS, [_row(r) for r in results], title=f"{bundle}: {prompt} + {new} tokens")


def _in_own_process(bundle: Path, engine: str, threads: int | None, sizes: dict[str, int]) -> dict[str, Any]:
    """One combination measured by a child, so that its memory is its own."""
    arguments = [str(part) for pair in sizes.items() for part in pair]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    verb = [sys.executable, "-m", "edgeslm", "bench", "--json", "--engine", engine, *arguments, "--", str(bundle)]
    done = subprocess.run(verb, capture_output=True, check=False)
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise EngineError(f"bench with {engine}: its process ended with code {done.returncode} and no result") from None
    if "error" in result:
        raise EngineError(result["error"]["message"])
    return result


def _row(r: dict[str, Any]) -> list[object]:
    speeds = [f"{r['prefill_tok_s']:.1f}", f"{r['decode_tok_s']:.1f}"]
    times = [f"{1000 * r['first_token_s']:.1f} ms", f"{1000 * r['load_s']:.1f} ms"]
    memory = ["" if r[key] is None else size(r[key]) for key in ("peak_rss_bytes", "anon_bytes")]
    return [r["engine"], r["isa"], r["threads"], *speeds, *times, *memory]
