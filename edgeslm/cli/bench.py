"""``edgeslm bench``: tokens per second and memory."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgeslm.cli.options import THREADS, engine_name, force_option, json_option, separated
from edgeslm.cli.output import print_json, print_table, size
from edgeslm.errors import EngineError

COLUMNS = (
    *("engine", "threads", "KV", "tokens", "prefill tok/s", "decode tok/s", "first token", "load"),
    *("of memory's speed", "KV memory", "peak RSS", "anonymous"),
)
SENSOR_COLUMNS = ("engine", "threads", "KV", "tokens", "prefill tok/J", "decode tok/J", "hottest", "throttling")
AWAY = "not available"
Process = tuple[str, int | None, str | None]  # engine, threads, type of keys and values


@click.command(short_help="Measure speed and memory.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    *("-p", "prompts"),
    type=separated(click.IntRange(min=1)),
    metavar="COUNTS",
    default="256",
    show_default=True,
    help="Tokens of the prompt.",
)
@click.option(
    *("-n", "new"),
    type=separated(click.IntRange(min=1)),
    metavar="COUNTS",
    default="64",
    show_default=True,
    help="Decode steps.",
)
@click.option(
    *("-d", "--depth", "depths"),
    type=separated(click.IntRange(min=0)),
    metavar="COUNTS",
    default="0",
    show_default=True,
    help="Tokens that the cache holds before what is measured.",
)
@click.option("--repeat", type=click.IntRange(1, 1000), default=3, show_default=True, help="Runs; medians count.")
@click.option(
    *("--engine", "engines"),
    type=separated(engine_name),
    metavar="NAMES",
    default="auto",
    help="One, or several: native,onnxruntime,litert.",
)
@click.option("--threads", type=separated(THREADS), metavar="COUNTS", help="Default: all usable CPUs.")
@click.option(
    "--kv-dtype", "kv_dtypes", type=separated(str), metavar="TYPES", help="Of keys and values; default: the engine's."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw speed against depth: a .png, .svg or .pdf."
)
@force_option
@json_option
def command(
    bundle: Path,
    prompts: list[int],
    new: list[int],
    depths: list[int],
    repeat: int,
    engines: list[str],
    threads: list[int] | None,
    kv_dtypes: list[str] | None,
    plot: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure BUNDLE: prefill and decode speed, time to the first token, load time, memory.

    All options but --repeat and --plot take lists, such as 1,2,4; every combination is measured. Prompt and decode
    steps are measured apart, each behind --depth tokens: medians of --repeat runs after one that warms up. Each engine,
    thread count and KV type gets a process of its own, whose memory is told. "of memory's speed" is the share of the
    machine's read bandwidth that decoding uses. Where there are sensors, tokens per joule, heat and throttling are told
    too. With --json one combination gives an object, several a list.

    \b
    edgeslm bench ./smol
    edgeslm bench ./smol -p 256 -n 64 --engine native,onnxruntime --threads 1,2 --json
    edgeslm bench ./smol --depth 0,1000,4000 --plot speed.png
    """
    if plot is not None:
        from edgeslm.plot import check_plot

        check_plot(plot)
    counts: list[int | None] = [*threads] if threads else [None]
    kinds: list[str | None] = [*kv_dtypes] if kv_dtypes else [None]
    processes = list(itertools.product(engines, counts, kinds))
    lists = {"-p": prompts, "-n": new, "--depth": depths, "--repeat": [repeat]}
    measure = _here if len(processes) == 1 else _in_own_process
    results = [result for process in processes for result in measure(bundle, process, lists, force)]
    if plot is not None:
        from edgeslm.plot import plot_speed

        plot_speed(plot, results, title=str(bundle))
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
        return
    print_table(COLUMNS, [_row(r) for r in results], title=str(bundle))
    click.echo(f"energy: {results[0]['energy_source']}")
    if any(r[key] is not None for r in results for key in ("decode_tok_j", "celsius", "throttling")):
        print_table(SENSOR_COLUMNS, [_sensor_row(r) for r in results])


def _here(bundle: Path, process: Process, lists: dict[str, list[int]], force: bool) -> list[dict[str, Any]]:
    from edgeslm.benchmark import Case, benchmark

    depths = sorted(lists["--depth"])  # a deeper cache goes on from what is there
    cases = [Case(p, n, depth) for depth, p, n in itertools.product(depths, lists["-p"], lists["-n"])]
    [repeat] = lists["--repeat"]
    results = benchmark(bundle, *process, cases=cases, repeat=repeat, force=force)
    return [dataclasses.asdict(result) for result in results]


def _in_own_process(bundle: Path, process: Process, lists: dict[str, list[int]], force: bool) -> list[dict[str, Any]]:
    """Measured by a child, so that its memory is its own."""
    engine, threads, kv_dtype = process
    given: dict[str, Sequence[object]] = {"--engine": [engine], **lists}
    given |= {"--threads": [threads]} if threads is not None else {}
    given |= {"--kv-dtype": [kv_dtype]} if kv_dtype is not None else {}
    arguments = [part for name, values in given.items() for part in (name, ",".join(map(str, values)))]
    arguments += ["--force"] if force else []
    verb = [sys.executable, "-m", "edgeslm", "bench", "--json", *arguments, "--", str(bundle)]
    done = subprocess.run(verb, capture_output=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise EngineError(f"bench with {engine}: its process ended with code {done.returncode} and no result") from None
    if "error" in found:
        raise EngineError(found["error"]["message"])
    return found if isinstance(found, list) else [found]


def _sensor_row(r: dict[str, Any]) -> list[object]:
    energy = [AWAY if r[key] is None else f"{r[key]:.3g}" for key in ("prefill_tok_j", "decode_tok_j")]
    heat = AWAY if r["celsius"] is None else f"{r['celsius']:.0f} °C"
    slowed = AWAY if r["throttling"] is None else ", ".join(r["throttling"]) or "none"
    return [r["engine"], r["threads"], r["kv_dtype"], _tokens(r), *energy, heat, slowed]


def _tokens(r: dict[str, Any]) -> str:
    return f"{r['prompt']} + {r['new']}" + (f" behind {r['depth']}" if r["depth"] else "")


def _row(r: dict[str, Any]) -> list[object]:
    speeds = [f"{r['prefill_tok_s']:.1f}", f"{r['decode_tok_s']:.1f}"]
    times = [f"{1000 * r['first_token_s']:.1f} ms", f"{1000 * r['load_s']:.1f} ms"]
    share = "" if r["roofline_fraction"] is None else f"{100 * r['roofline_fraction']:.0f} %"
    memory = ["" if r[key] is None else size(r[key]) for key in ("kv_bytes", "peak_rss_bytes", "anon_bytes")]
    engine = f"{r['engine']} {r['isa']}".rstrip()
    return [engine, r["threads"], r["kv_dtype"], _tokens(r), *speeds, *times, share, *memory]
