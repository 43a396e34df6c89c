"""Opening a bundle: what is refused, and with which words."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeslm.bundle import Bundle
from edgeslm.bundle_weights import BundleWeights
from edgeslm.errors import BundleError
from edgeslm.manifest import parse_manifest, safe_path

Edit = Callable[[Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def edit(bundle: Path) -> Edit:
    def apply(change: Callable[[dict[str, Any]], None]) -> None:
        path = bundle / "edgeslm.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return apply


def test_an_untouched_bundle_opens_and_round_trips(bundle: Path) -> None:
    opened = Bundle.open(bundle, check="full")
    assert parse_manifest(opened.manifest.dumps()) == opened.manifest
    assert set(opened.manifest.files) == {p.name for p in bundle.iterdir()} - {"edgeslm.json"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/x",
        "a//b",
        "a/",
        "C:x",
        "a\\b",
        "nul",
        "COM1.txt",
        "x\0",
        "edgeslm.json",
        "a ",
        "a.",
    ],
)
def test_paths_that_leave_the_bundle_or_mean_something_elsewhere(path: str) -> None:
    with pytest.raises(BundleError, match="plain path"):
        safe_path(path)


@pytest.mark.parametrize("name", ["model.onnx.data", "tokenizer.json", "README.md", "edgeslm.json"])
def test_symbolic_links_are_refused_and_hard_links_are_fine(bundle: Path, name: str) -> None:
    outside = bundle.parent / "outside"
    shutil.move(bundle / name, outside)
    os.link(outside, bundle / name)
    Bundle.open(bundle)
    (bundle / name).unlink()
    (bundle / name).symlink_to(outside)
    with pytest.raises(BundleError, match="symbolic link"):
        Bundle.open(bundle)


def test_a_bundle_reached_through_a_link_opens(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle)
    Bundle.open(tmp_path / "link")


def test_every_listed_file_is_needed_whole(bundle: Path) -> None:
    for path in sorted(bundle.iterdir()):
        content = path.read_bytes()
        if path.name == "edgeslm.json":
            continue
        path.unlink()
        with pytest.raises(BundleError, match=rf"{path.name}: missing"):
            Bundle.open(bundle)
        path.write_bytes(content[:-1])
        with pytest.raises(BundleError, match=rf"{path.name}: expected {len(content)} bytes, found {len(content) - 1}"):
            Bundle.open(bundle)
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(BundleError, match=rf"{path.name}: expected sha256"):
            Bundle.open(bundle)
        path.write_bytes(content)
    Bundle.open(bundle)


def test_a_large_file_is_hashed_by_a_full_check_only(bundle: Path, edit: Edit) -> None:
    data = bundle / "model.onnx.data"
    with data.open("ab") as file:
        file.truncate(65 << 20)

    def grow(manifest: dict[str, Any]) -> None:
        manifest["files"][data.name]["bytes"] = 65 << 20

    edit(grow)
    Bundle.open(bundle)
    with pytest.raises(BundleError, match="sha256"):
        Bundle.open(bundle, check="full")


def test_another_major_version_is_refused_and_a_newer_minor_one_is_not(bundle: Path, edit: Edit) -> None:
    edit(lambda m: m["format"].update(version="2.7"))
    Bundle.open(bundle)
    edit(lambda m: m["format"].update(version="3.0"))
    with pytest.raises(BundleError, match=r"version 3\.0.*upgrade"):
        Bundle.open(bundle)
    edit(lambda m: m["format"].update(version="1.0"))
    with pytest.raises(BundleError, match=r"version 1\.0.*reads 2\.x: convert the model again"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["parts"]["data"].update(offset=1 << 40), "beyond the end"),
        (lambda t: t["parts"]["data"].update(offset=8), "unaligned"),
        (lambda t: t["parts"]["data"].update(bytes=16), "expected .* bytes, found 16"),
        (lambda t: t.update(shape=[1, 1]), "bytes|does not match"),
        (lambda t: t.update(format="q3"), "unknown format"),
        (lambda t: t.update(group_size=48), "group_size"),
        (lambda t: t.update(file="elsewhere"), "do not list"),
        (lambda t: t["parts"].clear(), "expected parts"),
        (lambda t: t["parts"].pop("scales_f16"), "expected parts"),
        (lambda t: t.pop("scale_exponent"), "scale_exponent: expected int"),
        (lambda t: t.update(scale_exponent=True), "scale_exponent: expected int"),
        (lambda t: t.update(scale_exponent=-127), "scale_exponent -127"),
        (lambda t: t.update(scale_exponent=113), "scale_exponent 113"),
    ],
)
def test_lies_in_the_tensor_table(
    bundle: Path, edit: Edit, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(lambda m: change(m["targets"]["onnx"]["tensors"]["layers.0.attn.q"]))
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


def test_missing_and_unexpected_tensors_are_named_together(bundle: Path, edit: Edit) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        table = manifest["targets"]["onnx"]["tensors"]
        table["layers.0.attn.z"] = table.pop("layers.0.attn.q")

    edit(rename)
    with pytest.raises(BundleError, match=r"missing \['layers.0.attn.q'\], unexpected \['layers.0.attn.z'\]"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":1,"a":2}', b'{"a":NaN}', b"1" * 5000]
)
def test_manifests_that_are_not_ours(bundle: Path, raw: bytes) -> None:
    (bundle / "edgeslm.json").write_bytes(raw)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"no edgeslm\.json here"):
        Bundle.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="is a file"):
        Bundle.open(tmp_path / "file")


def test_maps_are_read_only_and_weights_are_cut_from_them(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    data = opened.map("model.onnx.data")
    assert data.readonly and data.nbytes == (bundle / "model.onnx.data").stat().st_size
    weights = BundleWeights(opened)
    whole = weights.rows("embed", 0, weights.shape("embed")[0])
    assert whole.shape == weights.shape("embed") and whole.dtype == np.float32
    np.testing.assert_array_equal(weights.rows("embed", 3, 7), whole[3:7])
    np.testing.assert_array_equal(weights.take("embed", np.array([5, 1])), whole[[5, 1]])
