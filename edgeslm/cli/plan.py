"""``edgeslm plan``: will it fit, and how fast will it be?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeslm.cli.options import THREADS, json_option, kv_dtype_option
from edgeslm.cli.output import print_json, print_table, size

if TYPE_CHECKING:
    from edgeslm.devices import Device
    from edgeslm.footprint import Formats
    from edgeslm.plan import Plan, Term
    from edgeslm.spec import DecoderSpec

LEVELS = ("none", "fp16", "int8", "int4")
PREFERRED = ("int8", "int4")  # the first of them that fits is what is planned with
COLUMNS = ("weights as", "weights", "cache", "scratch", "total", "fits", "prefill tok/s", "decode tok/s", "first token")


def device_name(value: str) -> str:
    """Reads a device's name."""
    from edgeslm.devices import THIS, device_names

    if value != THIS and value not in device_names():
        raise click.BadParameter(f"{value!r} is not one of {', '.join(device_names())}, {THIS}")
    return value


@click.command(short_help="Predict whether a model fits a device, and its speed.")
@click.argument("source", metavar="SRC|BUNDLE")
@click.option(
    "--device",
    type=device_name,
    required=True,
    metavar="NAME",
    help="rpi5-8gb, rpi4-4gb, pi-zero-2w, pixel-9, iphone-16, or this: the machine you are on, measured.",
)
@click.option(
    "--context", type=click.IntRange(min=1), help="Tokens of context; default: the bundle's, or at most 4096."
)
@click.option("-p", "prompt", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens of the prompt.")
@click.option(
    "--quantize", type=click.Choice(LEVELS), help="Plan with this level; default: int8 if it fits, else int4."
)
@click.option("--group-size", type=click.Choice(["32", "64", "128"]), default="32", show_default=True)
@click.option("--embed", type=click.Choice(["int4", "int8"]), help="The embedding's own level (with int8, int4).")
@kv_dtype_option
@click.option("--threads", type=THREADS, help="On this machine; default: all usable CPUs.")
@json_option
def command(
    source: str,
    device: str,
    context: int | None,
    prompt: int,
    quantize: str | None,
    group_size: str,
    embed: str | None,
    kv_dtype: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict whether a model fits a device, and how fast it will be there, in the native engine.

    SRC is a checkpoint folder, or org/name on the Hub, of which config.json alone is read. A BUNDLE is planned with as
    it was quantised. The times are sums that are printed term by term; docs/plan.md explains them.

    \b
    edgeslm plan Qwen/Qwen2.5-0.5B-Instruct --device rpi5-8gb
    edgeslm plan ./smol --device this --context 2048 --json
    """
    from edgeslm.plan import predict

    spec, variants = _variants(source, context, quantize, int(group_size), embed)
    where = _device(device, spec, variants, threads, kv_dtype)
    prompt = min(prompt, spec.context_length)
    plans = {name: predict(spec, formats, where, prompt, kv_dtype) for name, formats in variants.items()}
    chosen = _choose(plans, quantize)
    if as_json:
        print_json(_to_json(chosen, plans, spec, where))
        return
    title = f"{source} on {where.name}, {size(where.memory_bytes)} to use, {spec.context_length} tokens of context"
    print_table(COLUMNS, [_row(name, plan) for name, plan in plans.items()], title)
    plan = plans[chosen]
    click.echo(f"{chosen}: " + ("fits" if plan.fits else "does not fit: choose a smaller model or context"))
    for what, terms in ((f"prompt of {prompt} tokens", plan.prefill), ("each token behind it", plan.decode)):
        print_table((what, "ms"), [*_lines(terms), ("sum", f"{1000 * sum(t.seconds for t in terms):.3g}")])
    print_table(("figure", "source"), list(where.sources.items()))


def _variants(
    source: str, context: int | None, quantize: str | None, group_size: int, embed: str | None
) -> tuple[DecoderSpec, dict[str, Formats]]:
    """The decoder, and each way to store it that is planned: name → formats."""
    from edgeslm.manifest import NAME

    if (Path(source) / NAME).is_file():
        return _of_bundle(Path(source), context)
    from edgeslm.converters.checkpoint import read_spec
    from edgeslm.converters.convert import DEFAULT_CONTEXT
    from edgeslm.converters.policy import Options, tensor_formats

    spec = read_spec(source, context)
    if context is None and spec.context_length > DEFAULT_CONTEXT:
        spec = spec.with_context(DEFAULT_CONTEXT)
    names = [quantize] if quantize else LEVELS
    options = {name: Options(name, group_size, embed if name in PREFERRED or quantize else None) for name in names}
    return spec, {name: tensor_formats(spec, chosen) for name, chosen in options.items()}


def _of_bundle(folder: Path, context: int | None) -> tuple[DecoderSpec, dict[str, Formats]]:
    from edgeslm.bundle import Bundle
    from edgeslm.errors import ArgumentError

    bundle = Bundle.open(folder)
    target, spec = bundle.target("onnx"), bundle.spec
    if context is not None and context > spec.context_length:
        raise ArgumentError(f"--context {context}: expected at most {spec.context_length}, the bundle's own")
    formats = {name: (t.format, t.group_size) for name, t in target.tensors.items()}
    name = str(target.settings.get("quantize", "bundle"))
    return (spec if context is None else spec.with_context(context)), {name: formats}


def _device(
    name: str, spec: DecoderSpec, variants: dict[str, Formats], threads: int | None, kv_dtype: str | None
) -> Device:
    from edgeslm.devices import THIS, find_device
    from edgeslm.engines.registry import unavailable
    from edgeslm.errors import EngineError

    if reason := unavailable("native"):
        raise EngineError(f"plan asks the native engine what it takes: {reason}; plan on another machine")
    if name != THIS:
        return find_device(name)
    from edgeslm.probe import measure_device

    return measure_device(spec, list(variants.values()), threads, kv_dtype)


def _choose(plans: dict[str, Plan], quantize: str | None) -> str:
    if quantize or len(plans) == 1:
        return next(iter(plans))
    return next((name for name in PREFERRED if plans[name].fits), PREFERRED[-1])


def _to_json(chosen: str, plans: dict[str, Plan], spec: DecoderSpec, device: Device) -> dict[str, Any]:
    plan = plans[chosen]
    return {
        "quantize": chosen,
        **_figures(plan),
        "context": spec.context_length,
        "prompt_tokens": plan.prompt_tokens,
        "prefill": [asdict(term) for term in plan.prefill],
        "decode": [asdict(term) for term in plan.decode],
        "device": asdict(device),
        "levels": {name: _figures(other) for name, other in plans.items()},
    }


def _figures(plan: Plan) -> dict[str, Any]:
    from edgeslm.plan import PROCESS_BYTES

    return {
        **asdict(plan.memory),
        "process_bytes": PROCESS_BYTES,
        "total_bytes": plan.total_bytes,
        "memory_bytes": plan.memory_bytes,
        "fits": plan.fits,
        "bytes_per_token": plan.bytes_per_token,
        "prefill_tok_s": plan.prefill_tok_s,
        "decode_tok_s": plan.decode_tok_s,
        "first_token_s": plan.first_token_s,
    }


def _row(name: str, plan: Plan) -> list[object]:
    parts = (plan.memory.weights_bytes, plan.memory.kv_bytes, plan.memory.scratch_bytes, plan.total_bytes)
    speeds = (f"{plan.prefill_tok_s:.3g}", f"{plan.decode_tok_s:.3g}", f"{plan.first_token_s:.3g} s")
    return [name, *map(size, parts), "yes" if plan.fits else "no", *speeds]


def _lines(terms: list[Term]) -> list[tuple[str, str]]:
    return [(term.what, f"{1000 * term.seconds:.3g}") for term in terms]
