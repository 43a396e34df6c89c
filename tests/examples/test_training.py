"""The recipe of the translation student, as far as it needs no PyTorch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

RECIPE = Path(__file__).parents[2] / "examples" / "translation" / "train"
TRAIN = [
    ("Good  morning.", "Guten Morgen."),
    ("I need new shoes.", "Ich brauche neue Schuhe."),
    ("Where is the station?", "Wo ist der Bahnhof?"),
]


def run(script: str, *arguments: str, ok: bool = True) -> str:
    command = [sys.executable, str(RECIPE / script), *arguments]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
    }  # scripts that share modules
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode == 0) == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def corpus(folder: Path, name: str, train: list[tuple[str, str]], test: list[tuple[str, str]]) -> str:
    for part, pairs in (("train", train), ("dev", [("Hi.", "Hallo.")]), ("test", test)):
        (folder / f"{name}.{part}.tsv").write_text("".join(f"{a}\t{b}\tfrom nobody\n" for a, b in pairs))
    return str(folder / name)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    german = corpus(folder, "eng-deu", [*TRAIN, ("He  runs!", "Er flieht.")], [("He runs.", "Er rennt.")])
    pairs = [("I need new shoes.", "Il me faut des chaussures."), ("Thanks.", "Merci."), ("HALLO", "Allo.")]
    french = corpus(folder, "eng-fra", pairs, [("Yes.", "Oui.")])
    run("prepare.py", str(folder / "data"), f"en-de={german}", f"en-fr={french}")
    return folder / "data"


def test_held_out_sentences_stay_out_of_all_training_data(data: Path) -> None:
    assert lines(data / "train/en-de.tsv") == ["\t".join((" ".join(a.split()), b)) for a, b in TRAIN]
    assert lines(data / "train/fr-en.tsv") == ["Il me faut des chaussures.\tI need new shoes.", "Merci.\tThanks."]
    assert lines(data / "alone/en-de.tsv") == ["Thanks.\t"]
    assert lines(data / "test/de-en.tsv") == ["Er rennt.\tHe runs."]
    assert json.loads((data / "report.json").read_text())["pairs kept out"] == 2


def test_training_data_that_a_teacher_made_is_checked(data: Path, tmp_path: Path) -> None:
    (tmp_path / "en-de.tsv").write_text("Who is that?\tER RENNT\n")
    assert "ER RENNT" in run("prepare.py", str(data), "--check", str(tmp_path / "en-de.tsv"), ok=False)
    assert "no dev or test sentence" in run("prepare.py", str(data), "--check", str(data / "train/en-de.tsv"))


def test_the_vocabulary_has_tags_and_writes_any_text(data: Path, tmp_path: Path) -> None:
    sources = [option for name in ("en-de", "en-fr") for option in ("--data", str(data / f"train/{name}.tsv"))]
    run("vocabulary.py", str(tmp_path), *sources, "--size", "300")
    tokens = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    special = ("<pad>", "<s>", "</s>", "<2en>", "<2de>", "<2fr>", "<sep>")
    assert [tokens.token_to_id(name) for name in special] == list(range(7))
    assert tokens.decode(tokens.encode(" Grüße, 世界 🌍").ids) == " Grüße, 世界 🌍"


def test_texts_of_programs_are_matched_by_their_keys(data: Path, tmp_path: Path) -> None:
    files = {
        "app/translations/en.json": {
            "title": "New shoes",
            "menu": {
                "open": "Open {name}",
                "two": "Wait. Then go on.",
                "name": "Alexa",
                "same": "Apple TV",
                "dev": "Hi.",
            },
        },
        "app/translations/de.json": {
            "title": "Neue Schuhe",
            "menu": {
                "open": "{name} öffnen",
                "two": "Warte. Mach dann weiter.",
                "name": "Alexa",
                "same": "Apple TV",
                "dev": "Moin.",
            },
        },
        "more/en/names.json": {"en": {"fox": ["fox"], "many": ["dog", "cat"]}},
        "more/de/names.json": {"de": {"fox": ["Fuchs"], "many": ["Katze", "Hund"]}},
        "jed/de/words.json": {"": {"language": "de"}, "Save": ["Speichern"], "%d page": ["%d Seite", "%d Seiten"]},
    }
    for name, tree in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(tree))
    out = tmp_path / "en-de.tsv"
    run("interfaces.py", str(out), str(tmp_path), "--kept-out", str(data), "--apart", "100")
    made = {*lines(out), *lines(tmp_path / "en-de.apart.tsv")}
    assert made == {
        "New shoes.\tNeue Schuhe.",
        "Wait.\tWarte.",
        "Then go on.\tMach dann weiter.",
        "Alexa.\tAlexa.",
        "fox.\tFuchs.",
        "Save.\tSpeichern.",
    }
    assert len(lines(out)) == 5


def test_a_card_has_dates_written_out_and_no_phrase_that_a_name_decides(tmp_path: Path) -> None:
    sys.path.insert(0, str(RECIPE))
    try:
        import phrasebook
    finally:
        sys.path.remove(str(RECIPE))
    book = tmp_path / "en-de.tsv"
    phrases = (
        "Hi {she},\tHallo {she},",
        "Hi {he},\tHallo {he},",
        "Dear {she},\tLiebe {she},",
        "Dear {he},\tLieber {he},",
    )
    more = ("log in\tanmelden", "sign in\tanmelden", "next {month}\tnächsten {month}", "{number} days\t{number} Tage")
    book.write_text("".join(f"{line}\n" for line in (*phrases, *more, "He runs!\tEr läuft!")))
    there = phrasebook.for_card(book, False, {"he runs"})
    assert len(there) == 1 + 2 + 12
    assert (there["Hi {name},"], there["sign in"], there["next May"]) == ("Hallo {name},", "anmelden", "nächsten Mai")
    assert phrasebook.for_card(book, True, set())["anmelden"] == "log in"


def test_common_words_are_those_of_one_language_alone(tmp_path: Path) -> None:
    sys.path.insert(0, str(RECIPE))
    try:
        import common_words
    finally:
        sys.path.remove(str(RECIPE))
    (tmp_path / "en-de.tsv").write_text("I'm in\tich bin in\nI’m here\tich auch\n", "utf-8")
    (tmp_path / "en-fr.tsv").write_text("in here\tje suis ici\n", "utf-8")
    found = common_words.common_words(tmp_path / name for name in ("en-de.tsv", "en-fr.tsv"))
    assert found == {"en": "i'm here", "de": "ich bin auch", "fr": "je suis ici"}  # "in" is German, too


def test_a_pruned_vocabulary_keeps_what_its_tokens_are_made_of() -> None:
    sys.path.insert(0, str(RECIPE))
    try:
        import prune
    finally:
        sys.path.remove(str(RECIPE))
    merges = [["a", "b"], ["ab", "c"], ["b", "c"]]
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5, "bc": 6}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    outline = {"added_tokens": [{"id": 0, "content": "<s>"}], "model": model}
    keep = prune.chosen(vocabulary, prune.parts(outline), Counter(abc=5, bc=1), size=6)
    assert keep == {"<s>", "a", "b", "c", "ab", "abc"}
    two_ways = {**outline, "model": {**model, "merges": [["a", "bc"], *merges]}}
    assert prune.smaller(two_ways, keep)[0]["model"]["merges"] == [["a", "b"], ["ab", "c"]]
    found, rows = prune.smaller(outline, keep - {"ab", "abc"} | {"bc"})
    assert rows == [0, 1, 2, 3, 6]
    assert found["model"] == {**model, "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3, "bc": 4}, "merges": [["b", "c"]]}


def test_the_table_of_an_ablation(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(bytes(1_500_000))
    name = str(tmp_path / "model")
    scores = [{"model": name, "direction": "en-de", "beam": beam, "bleu": 30.0 + beam, "chrf": 50.0} for beam in (1, 4)]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(score) + "\n" for score in scores))
    shown = run("report.py", "--table", str(tmp_path / "scores.jsonl"), "--row", f"teacher={name}")
    assert shown.splitlines()[-1] == "| teacher | 1.5 | 31.0 / 50.0 | 34.0 / 50.0 |"


def test_a_phrasebook_is_filled_in_both_ways(data: Path, tmp_path: Path) -> None:
    book = tmp_path / "book" / "en-de.tsv"
    book.parent.mkdir()
    book.write_text("Dear {she},\tLiebe {she},\nlog in\tanmelden\nsign in\tanmelden\nHe runs!\tEr läuft!\n")
    for name, *options in (("en-de",), ("de-en", "--reverse")):
        out = tmp_path / f"{name}.tsv"
        run("phrasebook.py", str(out), str(book), "--kept-out", str(data), "--times", "3", *options)
    there, back = lines(tmp_path / "en-de.tsv"), lines(tmp_path / "de-en.tsv")
    letters = [line.split("\t") for line in there if line.startswith("Dear")]
    assert 1 <= len(letters) <= 3
    assert all(a.removeprefix("Dear ") == b.removeprefix("Liebe ") and a.endswith(".") for a, b in letters)
    assert there[len(letters) :] == [
        "log in.\tanmelden.",
        "Log in.\tAnmelden.",
        "sign in.\tanmelden.",
        "Sign in.\tAnmelden.",
    ]
    assert back[-2:] == ["anmelden.\tlog in.", "Anmelden.\tLog in."]


def test_a_phrasebook_answers_a_capital_with_one(data: Path, tmp_path: Path) -> None:
    book = tmp_path / "book" / "en-es.tsv"
    book.parent.mkdir()
    book.write_text("Hi everyone,\tHola a todos:\nMonday\tlunes\n{hour} hours ago\thace {hour} horas\n")
    for name, *options in (("en-es",), ("es-en", "--reverse")):
        out = tmp_path / f"{name}.tsv"
        run("phrasebook.py", str(out), str(book), "--kept-out", str(data), "--times", "1", *options)
    assert lines(tmp_path / "en-es.tsv")[:2] == ["Hi everyone.\tHola a todos.", "Monday.\tLunes."]
    assert " hours ago.\thace " in lines(tmp_path / "en-es.tsv")[2]
    assert lines(tmp_path / "es-en.tsv")[1:3] == ["lunes.\tMonday.", "Lunes.\tMonday."]
    book = book.rename(book.with_name("en-it.tsv"))
    assert "found it" in run("phrasebook.py", str(out), str(book), "--kept-out", str(data), ok=False)


@pytest.mark.parametrize("languages", ["en-de", "en-fr", "en-es"])
def test_the_phrasebooks_have_a_translation_on_each_line(languages: str, data: Path, tmp_path: Path) -> None:
    book = RECIPE / "phrasebook" / f"{languages}.tsv"
    pairs = [line.split("\t") for line in lines(book)]
    assert all(len(pair) == 2 and all(side == side.strip() != "" for side in pair) for pair in pairs)
    assert len({source for source, _ in pairs}) == len(pairs)
    for pair in pairs:
        source, target = (sorted(re.findall(r"\{.*?\}", side)) for side in pair)
        assert source == target, pair
    for options in ([], ["--reverse"]):
        out = tmp_path / "out.tsv"
        run("phrasebook.py", str(out), str(book), "--kept-out", str(data), *options)
        assert len(lines(out)) > len(pairs) and not re.search("[{}]", out.read_text())


def test_names_and_numbers_are_exchanged_alike_on_both_sides(data: Path, tmp_path: Path) -> None:
    often = [(f"I saw Tom {i} times.", f"Ich sah Tom {i}-mal.") for i in range(2, 9)]
    pairs = [*often, ("Tom's dog is 7.", "Toms Hund ist 7."), ("Tom met Tom.", "Tom traf Tom."), ("Hi.", "Tag.")]
    (tmp_path / "train.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    run("names.py", str(tmp_path / "en-de.tsv"), str(tmp_path / "train.tsv"), "--kept-out", str(data))
    found = [line.split("\t") for line in lines(tmp_path / "en-de.tsv")]
    assert len(found) == len(often) + 1  # who has none, or the same twice, is left out
    for source, target in found[:-1]:
        name, number = source.removeprefix("I saw ").removesuffix(" times.").split()
        assert name != "Tom"
        assert target == f"Ich sah {name} {number}-mal."
    name, number = found[-1][0].split("'s dog is ")
    assert found[-1] == [f"{name}'s dog is {number}", f"{name}s Hund ist {number}"] and "Tom" not in name
