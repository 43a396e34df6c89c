"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from edgeslm.generation import checks
from edgeslm.generation.options import MAX_LOGPROBS, MAX_SEED, GenerationArguments

Item = TypeVar("Item")
F = TypeVar("F", bound=Callable[..., Any])


def number(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """Reads a finite number, as the option of the same kind does; click's own float takes NaN and infinity too."""
    check = checks.number(low, high, above)

    def read(value: str) -> float:
        try:
            found: float = check("", float(value))
        except ValueError:
            allowed = checks.number_range(low, high, above)
            raise click.BadParameter(f"{value!r} is not {allowed}") from None
        return found

    return read


def bias(value: str) -> tuple[int, float]:
    """Reads ID=NUMBER."""
    token, equals, amount = value.partition("=")
    if not (equals and token.isascii() and token.isdigit()):
        raise click.BadParameter(f"{value!r} is not ID=NUMBER, such as 42=-3.5")
    return int(token), number()(amount)


def engine_name(value: str) -> str:
    """Reads an engine of the registry, or auto."""
    from edgeslm.engines.registry import ENGINES

    if value != "auto" and value not in ENGINES:
        raise click.BadParameter(f"{value!r} is not one of auto, {', '.join(ENGINES)}")
    return value


def separated(item: Callable[[str], Item]) -> Callable[[str], list[Item]]:
    """Reads comma-separated values."""
    return lambda value: [item(part.strip()) for part in value.split(",")]


THREADS = click.IntRange(1, 256)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, all else on stderr.")
threads_option = click.option("--threads", type=THREADS, help="Threads to compute with; default: one per usable core.")
force_option = click.option("--force", is_flag=True, help="Load it even if it will not fit the memory that there is.")
kv_dtype_option = click.option(
    "--kv-dtype",
    type=click.Choice(["f16", "f32", "int8"]),
    help="How the native engine keeps keys and values; default: f16.",
)
engine_option = click.option(
    "--engine",
    type=engine_name,
    metavar="NAME",
    default="auto",
    show_default=True,
    help="native, onnxruntime, litert, coreml, reference or auto.",
)


def generation_options(command: F) -> F:
    """The options of GenerationArguments, in the order of --help."""
    for option in reversed(GENERATION_OPTIONS):
        command = option(command)
    return command


def generation_arguments(given: dict[str, Any]) -> GenerationArguments:
    """What these options gave, as arguments of Model.generate; what was not given is left out."""
    arguments = {name: value for name, value in given.items() if value not in (None, ())}
    if "logit_bias" in arguments:
        arguments["logit_bias"] = dict(arguments["logit_bias"])
    return cast(GenerationArguments, arguments)


GENERATION_OPTIONS = (
    click.option("--max-new-tokens", "--max-tokens", type=click.IntRange(min=1), help="At most so many; default: 256."),
    click.option(
        *("--temperature", "--temp"),
        type=number(0),
        metavar="NUMBER",
        help="0: the most likely token; above: sampled, the higher the freer.",
    ),
    click.option("--top-k", type=click.IntRange(min=0), help="Sample among the k most likely tokens; 0: all."),
    click.option(
        "--top-p", type=number(0, 1), metavar="NUMBER", help="Sample among the likeliest holding this probability."
    ),
    click.option(
        "--min-p",
        type=number(0, 1),
        metavar="NUMBER",
        help="Sample among tokens at least this times as probable as the likeliest.",
    ),
    click.option(
        "--repetition-penalty",
        type=number(0, above=True),
        metavar="NUMBER",
        help="Above 1: tokens of prompt and completion become less likely; 1: off.",
    ),
    click.option(
        "--presence-penalty",
        type=number(),
        metavar="NUMBER",
        help="Taken from the logits of tokens that the completion holds.",
    ),
    click.option(
        "--frequency-penalty", type=number(), metavar="NUMBER", help="The same, for every time that it holds them."
    ),
    click.option(
        "--logit-bias",
        type=bias,
        metavar="ID=NUMBER",
        multiple=True,
        help="Added to a token's logit. May be given several times.",
    ),
    click.option("--seed", type=click.IntRange(0, MAX_SEED), help="The same seed gives the same text."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. May be given several times."),
    click.option(
        "--stop-token",
        "stop_token_ids",
        type=click.IntRange(min=0),
        metavar="ID",
        multiple=True,
        help="End at this token. May be given several times.",
    ),
)
logprobs_option = click.option(
    "--logprobs",
    type=click.IntRange(0, MAX_LOGPROBS),
    metavar="N",
    help="With --json: log probabilities of each token and of the N likeliest.",
)
