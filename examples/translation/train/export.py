"""Makes a folder to ship of a trained student.

It holds checkpoint, tokenizer, chat template, translation.json for `edgeslm translate`, and a model card.

\b
    python export.py runs/student student --name en-de-student --pair en-de --pair de-en \\
        --scores scores.jsonl --template vocabulary/chat_template.jinja --data data/train/en-de.tsv \\
        --book phrasebook/en-de.tsv

then `edgeslm convert student student-int8 --quantize int8`. The card's scores are those that evaluate.py --out
wrote of RUN.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import click
import corpus
import phrasebook
import prepare
from common_words import common_words
from safetensors import safe_open
from tokenizers import Tokenizer

from edgeslm.translation import names
from edgeslm.translation.phrasebook import reversed_phrases

OFTEN = 2  # in the data, for a word to be known

CARD = """---
license: apache-2.0
language: [{languages}]
pipeline_tag: translation
datasets: [tatoeba]
tags: [translation, on-device]
---

# {name}: a translator of {size:.1f} M parameters

Directions: {directions}. Everyday sentences of up to about 20 words; it invents on anything else.
Not for uses where a wrong translation does harm.

* `LlamaForCausalLM`, bfloat16. Prompt: `<s><2xx> ` + sentence + `<sep>`, written out, where `<2xx>` is the
  tag of the language wanted ({tags}); the answer ends with `</s>`. The chat template does the same for one user
  message (`target_language="xx"`); `translation.json` says it to `edgeslm translate`.

## Scores

sacrebleu, on sentences of which neither side is in any training data:

| direction | beam | BLEU | chrF |
|---|---|---|---|
{scores}

## Training

{training}

## Licence and data

Weights: Apache-2.0. Training data: sentence pairs from [tatoeba.org](https://tatoeba.org) via
[manythings.org/anki](https://www.manythings.org/anki/), CC BY 2.0.
"""


TRAINING = (
    "Distilled with `examples/translation/train` of edgeslm from teachers that were trained on the same sentence pairs."
)


def card(name: str, run: Path, pairs: list[tuple[str, str]], scores: Path, training: str) -> str:
    with safe_open(run / "model.safetensors", "np") as tensors:
        size = sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    found = [json.loads(line) for line in scores.read_text().splitlines()]
    latest = {(s["direction"], s["beam"]): (s["bleu"], s["chrf"]) for s in found if Path(s["model"]) == run}
    rows = [f"| {way} | {beam} | {bleu:.1f} | {chrf:.1f} |" for (way, beam), (bleu, chrf) in latest.items()]
    if not rows:
        raise click.UsageError(f"{scores}: no scores of {run}; let evaluate.py --out write them first")
    languages = list(dict.fromkeys(language for pair in pairs for language in pair))
    return CARD.format(
        name=name,
        languages=", ".join(languages),
        size=size / 1e6,
        scores="\n".join(rows),
        training=training,
        directions=", ".join(f"{source} → {target}" for source, target in pairs),
        tags=", ".join(f"`<2{language}>`" for language in dict.fromkeys(target for _, target in pairs)),
    )


def capitals(data: tuple[Path, ...], tokens: Tokenizer) -> set[str]:
    """Words with a capital within the sentences of files that are mostly translated, but would pass for names."""
    known = set[str]()
    for path in data:
        least = names.least(corpus.direction(path)[0], False)
        kept, translated = Counter[str](), Counter[str]()
        for source, target in corpus.read(path):
            for word in (found[0] for found in names.CAPITAL.finditer(source) if found.start()):
                (kept if word in target else translated)[word] += 1
        often = [word for word, count in translated.items() if count >= max(OFTEN, kept[word])]
        known |= {word for word in often if min(pieces(tokens, word), pieces(tokens, word.lower())) >= least}
    return known


def pieces(tokens: Tokenizer, word: str) -> int:
    return len(tokens.encode(f" {word}", add_special_tokens=False))


def phrases(books: tuple[Path, ...], pair: tuple[str, str], held_out: set[str]) -> dict[str, str]:
    """What the phrasebooks of a pair know, either way about."""
    found: dict[str, str] = {}
    for book in books:
        if set(corpus.direction(book)) == set(pair):
            found |= phrasebook.for_card(book, corpus.direction(book) != pair, held_out)
    return found


def in_phrases(books: dict[tuple[str, str], dict[str, str]], tokens: Tokenizer) -> set[str]:
    """Words of phrases that would pass for names."""
    words = {word[0] for book in books.values() for phrase in book for word in names.CAPITAL.finditer(phrase)}
    return {word for word in words if min(pieces(tokens, word), pieces(tokens, word.lower())) >= names.PIECES}


def translation(
    books: dict[tuple[str, str], dict[str, str]], known: set[str], words: dict[str, str]
) -> dict[str, object]:
    pairs = list[dict[str, object]]()
    for way, book in books.items():
        pair = {"source": way[0], "target": way[1], "prompt": f"<s><2{way[1]}> {{text}}<sep>"}
        if any((other["target"], other["source"]) == way for other in pairs):
            backwards = reversed_phrases(books[way[::-1]])
            own = {phrase: text for phrase, text in book.items() if backwards.get(phrase) != text}
            pairs.append({**pair, "phrases": own})
        else:
            pairs.append({**pair, "phrases": book, "reversible": True})
    return {
        "pairs": pairs,
        "letters": ["AZ", "az", "Àɏ"],
        "stand_ins": ["Tom", "Boston", "London"],
        "max_words": 20,
        "capitals": " ".join(sorted(known)),
        "words": words,
    }


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", required=True)
@click.option("--pair", "ways", multiple=True, required=True, help="A direction, such as en-de; many.")
@click.option(
    "--scores", required=True, type=click.Path(path_type=Path, exists=True), help="What evaluate.py --out wrote."
)
@click.option(
    "--template",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="The chat template that vocabulary.py wrote.",
)
@click.option("--licence", required=True, type=click.Path(path_type=Path, exists=True), help="LICENSE to put there.")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Real pairs that it was trained on, for words with capitals that are no names; many.",
)
@click.option(
    "--book",
    "books",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A phrasebook, as phrasebook.py takes it, for what need not be asked; many.",
)
@prepare.kept_out_option
@click.option("--training", default=TRAINING, help="What the card says of the training, in Markdown.")
def main(
    run: Path,
    out: Path,
    name: str,
    ways: tuple[str, ...],
    scores: Path,
    template: Path,
    licence: Path,
    data: tuple[Path, ...],
    books: tuple[Path, ...],
    kept_out: Path,
    training: str,
) -> None:
    pairs = [corpus.direction(Path(pair)) for pair in ways]
    text = card(name, run, pairs, scores, training)
    out.mkdir(parents=True, exist_ok=True)
    for file in (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        shutil.copyfile(run / file, out / file)
    shutil.copyfile(template, out / "chat_template.jinja")
    shutil.copyfile(licence, out / "LICENSE")
    tokens, held_out = Tokenizer.from_file(str(run / "tokenizer.json")), prepare.held_out(kept_out)
    known_phrases = {pair: phrases(books, pair, held_out) for pair in pairs}
    known = capitals(data, tokens) | in_phrases(known_phrases, tokens)
    made = translation(known_phrases, known, common_words(data))
    (out / "translation.json").write_text(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")
    (out / "README.md").write_text(text)
    click.echo(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    main()
