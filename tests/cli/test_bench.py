"""``edgeslm bench``: what it measures, of which combinations, and how it tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeslm.bundle import Bundle
from edgeslm.footprint import weight_bytes
from edgeslm.memory import cache_bytes
from edgeslm.meter import Meter, Usage

Edgeslm = Callable[..., Any]
NUMBERS = {
    *("threads", "prompt", "new", "prefill_tok_s", "decode_tok_s", "first_token_s", "load_s", "kv_bytes"),
    *("read_bandwidth", "peak_rss_bytes", "anon_bytes"),
}
SENSORS = {"prefill_tok_j", "decode_tok_j", "energy_source", "celsius", "throttling"}
KEYS = (
    NUMBERS
    | SENSORS
    | {*("engine", "isa", "kv_dtype", "depth", "prefill_range", "decode_range", "bytes_per_token", "roofline_fraction")}
)
SMALL = ("-p", 4, "-n", 2, "--repeat", 2)


def test_one_combination_is_an_object(edgeslm: Edgeslm, bundle: Path) -> None:
    found = edgeslm("bench", bundle, *SMALL, "--engine", "onnxruntime", "--threads", 1, "--json").json
    assert set(found) == KEYS
    assert (found["engine"], found["threads"], found["kv_dtype"], found["depth"]) == ("onnxruntime", 1, "f32", 0)
    assert all(found[key] > 0 for key in NUMBERS)
    assert found["peak_rss_bytes"] > found["anon_bytes"]
    assert found["bytes_per_token"] is found["roofline_fraction"] is None  # who knows what it reads
    for part in ("prefill", "decode"):
        slowest, fastest = found[f"{part}_range"]
        assert slowest <= found[f"{part}_tok_s"] <= fastest


def test_what_a_token_reads(edgeslm: Edgeslm, bundle: Path) -> None:
    shallow, deep = edgeslm("bench", bundle, *SMALL, "--engine", "native", "--depth", "0,200", "--json").json
    opened = Bundle.open(bundle)
    tensors = opened.manifest.targets["onnx"].tensors
    weights = weight_bytes(opened.spec, {name: (t.format, t.group_size) for name, t in tensors.items()})
    whole = (
        sum(weights.values()) + weights["embed"] // opened.spec.vocab_size
    )  # the tied head, and a row of the embedding
    for r in (shallow, deep):
        assert r["bytes_per_token"] == whole + cache_bytes(opened.spec, r["kv_dtype"], r["depth"] + 2)
        assert r["roofline_fraction"] == r["bytes_per_token"] * r["decode_tok_s"] / r["read_bandwidth"]
        assert r["kv_bytes"] == cache_bytes(opened.spec, r["kv_dtype"], r["depth"] + 4)
    assert shallow["peak_rss_bytes"] == deep["peak_rss_bytes"]  # the process's


def test_energy_heat_and_throttling_where_there_are_sensors(
    edgeslm: Edgeslm, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = Usage(1, 4, "RAPL: package-0", 61.5, ["thermal throttling"])
    monkeypatch.setattr(Meter, "stop", lambda self: usage)
    found = edgeslm("bench", bundle, *SMALL, "--engine", "native", "--json").json
    assert {key: found[key] for key in SENSORS} == {
        "prefill_tok_j": 1,  # 4 tokens twice, 4 joules twice
        "decode_tok_j": 0.5,
        "energy_source": "RAPL: package-0",
        "celsius": 61.5,
        "throttling": ["thermal throttling"],
    }
    out = edgeslm("bench", bundle, *SMALL, "--engine", "native").out
    assert out.splitlines()[-1].split("\t")[4:] == ["1", "0.5", "62 °C", "thermal throttling"]


def test_every_combination_each_process_its_own(edgeslm: Edgeslm, bundle: Path) -> None:
    lists = ("-p", "4,8", "-n", 1, "-d", "3,0", "--repeat", 1)
    found = edgeslm("bench", bundle, *lists, "--engine", "reference,onnxruntime", "--json").json
    told = [(r["engine"], r["depth"], r["prompt"]) for r in found]
    assert told == [(e, d, p) for e in ("reference", "onnxruntime") for d in (0, 3) for p in (4, 8)]
    assert len({r["load_s"] for r in found}) == 2


def test_the_table(edgeslm: Edgeslm, bundle: Path) -> None:
    out = edgeslm("bench", bundle, *SMALL, "--depth", "0,5", "--engine", "native").out
    heading, *rows = out[: out.index("\nenergy: ")].splitlines()
    assert heading.startswith("engine\tthreads\tKV\ttokens\tprefill tok/s\tdecode tok/s")
    assert [row.split("\t")[3] for row in rows] == ["4 + 2", "4 + 2 behind 5"]
    assert all(re.search(r"\t\d+ %\t", row) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", 5000, "--engine", "onnxruntime,reference"), "do not fit the context of 512"),
        (("--depth", "0,509", "-p", 4, "-n", 4, "--engine", "native"), "do not fit the context of 512"),
        (("--kv-dtype", "f8", "--engine", "onnxruntime"), "f8"),
        (("--plot", "speed.gif"), "expected a name that ends in .png, .svg, .pdf"),
        (("--plot", "absent/speed.png"), "there is no folder absent"),
    ],
    ids=str,
)
def test_an_error_is_one_line(edgeslm: Edgeslm, bundle: Path, arguments: tuple[object, ...], message: str) -> None:
    done = edgeslm("bench", bundle, *arguments)
    assert (done.code, done.out) == (1, "") and message in done.err and done.err.count("\n") == 1


def test_without_matplotlib_the_extra_is_named(
    edgeslm: Edgeslm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = edgeslm("bench", "absent", "--plot", tmp_path / "speed.png")
    assert done.code == 1 and 'pip install "edgeslm[plot]"' in done.err


def test_the_plot(edgeslm: Edgeslm, bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "speed.svg"
    done = edgeslm("bench", bundle, *SMALL, "--depth", "0,8", "--engine", "native", "--plot", picture)
    assert done.code == 0
    assert picture.read_text().count('id="FillBetweenPolyCollection') == 2  # the ranges of prefill and decode
    assert list(tmp_path.iterdir()) == [picture]
