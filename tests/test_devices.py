"""The file of devices: complete, every figure with its source, and rates that follow from it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from edgeslm.devices import DATA, device_names, find_device
from edgeslm.errors import ArgumentError
from edgeslm.formats import FORMATS

ARM = Path(__file__).parents[1] / "docs" / "arm.md"
RAW = tomllib.loads(DATA.read_text("utf-8"))
FIGURES = ("memory_bytes", "reserved_bytes", "read_bytes_per_s")


def test_the_devices_that_the_command_promises_are_there() -> None:
    assert device_names() == ["rpi5-8gb", "rpi4-4gb", "pi-zero-2w", "pixel-9", "iphone-16"]


def test_every_figure_has_a_value_and_a_source() -> None:
    tables = [RAW["general"], *({k: v[k] for k in FIGURES} for v in RAW["devices"].values())]
    for figure in (f for table in tables for f in table.values()):
        assert figure["value"] > 0 and len(figure["source"]) >= len("assumed")
    for device in RAW["devices"].values():
        assert set(device) == {"name", "cores", "cores_source", *FIGURES}, (
            "a figure without its source, or an unread one"
        )
        assert device["cores_source"]
        for core in device["cores"]:
            assert set(core) == {"kind", "count", "hz"} and core["kind"] in RAW["cores"]
    for core in RAW["cores"].values():
        assert core["source"] and set(core["one_token"]) == set(core["many_tokens"]) == {"q8", "q4"}


@pytest.mark.parametrize("name", device_names())
def test_rates_follow_from_the_figures(name: str) -> None:
    device, raw = find_device(name), RAW["devices"][name]
    assert 0 < device.memory_bytes < raw["memory_bytes"]["value"]
    assert device.threads == sum(c["count"] for c in raw["cores"])
    rates = device.rates
    assert set(rates.efficiency) == set(rates.macs_per_s) == set(FORMATS)
    assert all(0 < share <= RAW["general"]["efficiency"]["value"] for share in rates.efficiency.values())
    assert rates.macs_per_s["q8"] > rates.macs_per_s["f32"]
    assert {"memory_bytes", "reserved_bytes", "read_bytes_per_s", "efficiency", "cores"} < set(device.sources)


def test_cores_of_several_kinds_add_up() -> None:
    cycles = RAW["cores"]["armv9"]["many_tokens"]["q4"]
    share = RAW["general"]["share_of_loop"]["value"]
    expected = share * (3.1e9 + 3 * 2.6e9) / cycles
    assert find_device("pixel-9").rates.macs_per_s["q4"] == pytest.approx(expected)


def test_slow_cores_bound_what_is_read() -> None:
    """A Cortex-A53 computes more slowly than its memory delivers int4 weights."""
    rates = find_device("pi-zero-2w").rates
    share = RAW["general"]["share_of_loop"]["value"]
    one_token = share * 4 * 1.0e9 / RAW["cores"]["cortex-a53"]["one_token"]["q4"]
    assert rates.efficiency["q4"] * rates.read_bytes_per_s == pytest.approx(one_token * 0.5)
    assert rates.efficiency["q4"] < RAW["general"]["efficiency"]["value"]


def test_an_unknown_device_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"rpi5-8gb.*this.*found 'gameboy'"):
        find_device("gameboy")


def estimates() -> dict[str, dict[str, float]]:
    """Loop → core → cycles per multiply-add, as the table of docs/arm.md tells."""
    kinds = {
        "Cortex-A53": "cortex-a53",
        "Cortex-A72": "cortex-a72",
        "Neoverse N1": "cortex-a76",
        "Neoverse N2": "armv9",
    }
    head, *rows = re.findall(r"^\| (.+) \|$", ARM.read_text("utf-8").partition("## Estimated speed")[2], re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in (head, *rows)]
    return {
        row[0]: {kinds[name]: float(cell) for name, cell in zip(cells[0], row, strict=True) if name in kinds and cell}
        for row in cells[1:]
    }


@pytest.mark.parametrize("kind", list(RAW["cores"]))
def test_estimates_are_those_of_the_documentation(kind: str) -> None:
    rows, core = estimates(), RAW["cores"][kind]
    isa = "neon" if kind in ("cortex-a53", "cortex-a72") else "dotprod"
    for form in ("q8", "q4"):
        assert core["one_token"][form] == rows[f"{form} `{isa}`, 1 token"][kind]
    many = {
        form: rows[f"{form} `{isa}`, 4 tokens" + (" by 8 outputs" if isa == "dotprod" else "")] for form in ("q8", "q4")
    }
    if kind == "armv9":
        many = dict.fromkeys(many, rows["q4 and q8 `i8mm`, 4 tokens by 8 outputs"])
    assert core["many_tokens"] == {form: row[kind] for form, row in many.items()}
    assert core["float"] == rows["f32, and f16 widened, 4 tokens by 4 outputs"][kind]
    assert core["attention"] == rows["attention over f16"][kind]
