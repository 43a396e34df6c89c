"""The embedded translator, converted as a user would and held to its known answers, and to verification itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeslm
from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.verify import verify
from edgeslm.embedded import BUNDLE
from edgeslm.embedded import CHECKPOINT as MODEL
from edgeslm.errors import ArgumentError, BundleError

ANSWERS = {
    "I need new shoes.": "Ich brauche neue Schuhe.",
    "Where is the train station?": "Wo ist der Bahnhof?",
    "I don't know what to say.": "Ich weiß nicht, was ich sagen soll.",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everyday") / "int8"
    convert(MODEL, folder, options=Options("int8"))
    return folder


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "reference"])
def test_known_translations(bundle: Path, engine: str) -> None:
    with edgeslm.load(bundle, engine=engine) as model:
        for english, german in ANSWERS.items():
            result = model.generate(f"<s><2de> {english}<sep>")
            assert (result.text, result.finish_reason) == (" " + german, "eos")
            assert "".join(model.stream(f"<s><2de> {english}<sep>")) == result.text


@pytest.mark.parametrize("level", ["none", "fp16", "int8", "int4"])
def test_every_level_passes_verification_on_every_engine(tmp_path: Path, level: str) -> None:
    report = convert(MODEL, tmp_path / "b", options=Options(level)).verification
    assert report is not None and report.passed
    assert {m.engine for m in report.targets["onnx"]} == {"native", "onnxruntime"}


def test_verification_against_the_checkpoint_agrees_with_the_stored_answer(bundle: Path) -> None:
    stored = verify(Bundle.open(bundle), engine="native").targets["onnx"][0]
    fresh = verify(Bundle.open(bundle), engine="native", against=MODEL).targets["onnx"][0]
    assert fresh.kl == pytest.approx(stored.kl, rel=1e-3) and fresh.passed


def test_a_bundle_without_a_stored_answer_needs_its_checkpoint(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    files = {name: entry for name, entry in opened.manifest.files.items() if name != "reference.npz"}
    bare = replace(opened, manifest=replace(opened.manifest, files=files))
    with pytest.raises(BundleError, match="--against"):
        verify(bare, engine="native")
    assert verify(bare, engine="native", against=MODEL).targets["onnx"][0].tokens == 256


def test_a_target_that_computes_something_else_fails(bundle: Path, tmp_path: Path) -> None:
    """Scales of one matrix doubled in both precisions, hashes made to fit: only the original can tell."""
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    manifest = json.loads((changed / "edgeslm.json").read_text())
    tensor = manifest["targets"]["onnx"]["tensors"]["layers.3.mlp.down"]
    tensor["scale_exponent"] += 1
    part = tensor["parts"]["scales"]
    raw = bytearray((changed / "model.onnx.data").read_bytes())
    scales = memoryview(raw)[part["offset"] : part["offset"] + part["bytes"]].cast("f")
    for i, scale in enumerate(scales.tolist()):
        scales[i] = 2 * scale
    scales.release()
    (changed / "model.onnx.data").write_bytes(raw)
    manifest["files"]["model.onnx.data"]["sha256"] = hashlib.sha256(raw).hexdigest()
    (changed / "edgeslm.json").write_text(json.dumps(manifest))
    report = verify(Bundle.open(changed, check="full"))
    assert not report.passed and all(not m.passed for m in report.targets["onnx"])


def test_nothing_verified_is_a_failure(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    empty = replace(opened, manifest=replace(opened.manifest, targets={}))
    assert not verify(empty).passed
    with pytest.raises(ArgumentError, match="expected one of"):
        verify(opened, engine="none")


def test_converting_onto_another_model_or_context(bundle: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    out = Path(shutil.copytree(bundle, tmp_path / "out"))
    with pytest.raises(BundleError, match="another model"):
        convert(tiny_checkpoint, out, check=False)
    with pytest.raises(BundleError, match="context of 512"):
        convert(MODEL, out, context=128, check=False)
    report = convert(MODEL, out, options=Options("int4"), check=False)
    assert report.manifest.targets["onnx"].files["model"] == "model-2.onnx"
    with edgeslm.load(out) as model:
        assert model.generate("<s><2de> Where is the train station?<sep>").text == " Wo ist der Bahnhof?"
    assert not (out / "model.onnx").exists()


def test_the_bundle_carries_licence_and_card(bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    assert (bundle / "LICENSE").read_text() == (MODEL / "LICENSE").read_text()
    assert "apache-2.0" in card and "int8" in card and "passed" in card


def test_the_embedded_bundle_is_what_its_checkpoint_converts_to(tmp_path: Path) -> None:
    """It spares a device the converter; docs/translation.md says how to make it again."""
    report = convert(MODEL, tmp_path / "made", options=Options("int4", group_size=128)).verification
    assert report is not None and all(found.kl < 0.002 for found in report.targets["onnx"])  # it has int4's weights
    shipped, made = Bundle.open(BUNDLE, check="full"), Bundle.open(tmp_path / "made")
    assert shipped.spec == made.spec and shipped.fingerprint("onnx") == made.fingerprint("onnx")
    same = {name for name in made.manifest.files if made.manifest.files[name] == shipped.manifest.files[name]}
    assert same | {"README.md", "reference.npz"} == made.manifest.files.keys()
    with np.load(made.folder / "reference.npz") as new, np.load(shipped.folder / "reference.npz") as old:
        np.testing.assert_allclose(new["logsumexp"], old["logsumexp"], rtol=1e-4)  # BLAS sums in its own order
    assert all(found["passed"] for found in shipped.target("onnx").verification["engines"].values())
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 8_000_000


def test_names_that_they_do_not_know_are_kept_and_other_words_with_capitals_are_not() -> None:
    english = ["Bimdick's dog is Swedish.", "Drellkill lives in Switzerland."]
    german = ["Bimdick kennt Drellkill.", "Drellkill wohnt in der Schweiz."]
    with edgeslm.Translator.load() as translator:
        there = [found.text for found in translator.translate_batch(english, "en", "de")]
        back = [found.text for found in translator.translate_batch(german, "de", "en")]
    assert there == ["Bimdicks Hund ist Schwedisch.", "Drellkill wohnt in der Schweiz."]
    assert back == ["Bimdick knows Drellkill.", "Drellkill lives in Switzerland."]
