"""The devices of ``devices.toml``: what they have, and how fast they compute."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeslm.errors import ArgumentError
from edgeslm.formats import FORMATS

DATA = Path(__file__).with_name("devices.toml")
THIS = "this"  # the machine that edgeslm runs on: measured, not looked up


@dataclass(frozen=True)
class Rates:
    """How fast a device computes with weights of the formats named. Bytes and multiply-adds per second."""

    read_bytes_per_s: float
    efficiency: dict[
        str, float
    ]  # format → of linears of one token, as a share of it; above 1 where caches hold weights
    macs_per_s: dict[str, float]  # format → of linears of many tokens
    attention_macs_per_s: float  # of scores and values, many tokens
    token_attention_macs_per_s: float  # the same for one token
    layer_s: float  # seconds of a layer in one pass, whatever its size


@dataclass(frozen=True)
class Device:
    """What a device has."""

    name: str
    memory_bytes: int  # that programs can have: without what the system keeps
    threads: int
    rates: Rates
    sources: dict[str, str]  # figure → where it comes from


def device_names() -> list[str]:
    """The names that :func:`find_device` knows."""
    return list(_read()["devices"])


def find_device(name: str) -> Device:
    """The device of this name.

    Raises:
        ArgumentError: there is none; the message lists those that there are.
    """
    data = _read()
    if name not in data["devices"]:
        raise ArgumentError(f"device: expected one of {', '.join(data['devices'])} or {THIS}; found {name!r}")
    found, general = data["devices"][name], data["general"]
    figures = {**general, **{k: v for k, v in found.items() if isinstance(v, dict)}}
    kinds = {core["kind"] for core in found["cores"]}
    return Device(
        name=found["name"],
        memory_bytes=int(found["memory_bytes"]["value"] - found["reserved_bytes"]["value"]),
        threads=sum(core["count"] for core in found["cores"]),
        rates=_rates(found, data["cores"], {k: float(v["value"]) for k, v in figures.items()}),
        sources={
            **{k: v["source"] for k, v in figures.items()},
            "cores": found["cores_source"],
            **{kind: data["cores"][kind]["source"] for kind in sorted(kinds)},
        },
    )


def _rates(found: dict[str, Any], kinds: dict[str, Any], figures: dict[str, float]) -> Rates:
    """Rates of the cores together; what no format's kernel is estimated for computes in float32."""

    def macs(use: str, form: str = "") -> float:
        cycles = {kind: table[use].get(form, table["float"]) if form else table[use] for kind, table in kinds.items()}
        return figures["share_of_loop"] * sum(float(c["count"] * c["hz"] / cycles[c["kind"]]) for c in found["cores"])

    read = figures["read_bytes_per_s"]
    at_most = {name: macs("one_token", name) * _bytes_per_weight(name) / read for name in FORMATS}
    return Rates(
        read_bytes_per_s=read,
        efficiency={name: min(figures["efficiency"], share) for name, share in at_most.items()},
        macs_per_s={name: macs("many_tokens", name) for name in FORMATS},
        attention_macs_per_s=macs("attention"),
        token_attention_macs_per_s=macs("attention"),
        layer_s=figures["layer_s"],
    )


def _bytes_per_weight(name: str) -> float:
    shape = (1, 128)
    return FORMATS[name].layout(shape, 128 if FORMATS[name].grouped else 0)["data"].nbytes / shape[1]


def _read() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text("utf-8"))
