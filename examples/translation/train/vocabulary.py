"""Trains the vocabulary of a translation student: byte-level BPE with a tag for each language.

\b
    python vocabulary.py vocabulary --data data/train/en-de.tsv --data data/train/en-fr.tsv --size 8000

writes tokenizer.json, tokenizer_config.json and chat_template.jinja. Special tokens: <pad> <s> </s> <2xx> of each
language <sep>. The template puts a conversation's user message in as the sentence; to which language is said by the
variable `target_language` (else the last pair's target).
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import corpus
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<s><2{{ target_language or 'TARGET' }}> {{ m['content'] }}<sep>"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)


def special(languages: list[str]) -> list[str]:
    return ["<pad>", "<s>", "</s>", *(f"<2{language}>" for language in languages), "<sep>"]


def train(texts: list[str], languages: list[str], size: int) -> Tokenizer:
    tokens = Tokenizer(models.BPE())
    tokens.normalizer = normalizers.NFC()
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=special(languages), initial_alphabet=alphabet, show_progress=True
        ),
    )
    return tokens


def save(tokens: Tokenizer, path: Path) -> None:
    """As tokenizer.json in its older and shorter form, which every reader knows and which is read in two thirds of the
    time: merges are texts, "a b", as no token of bytes has a space in it."""
    outline = json.loads(tokens.to_str())
    outline["model"]["merges"] = [" ".join(merge) for merge in outline["model"]["merges"]]
    path.write_text(json.dumps(outline, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


def config(languages: list[str]) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "additional_special_tokens": special(languages)[3:],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Training pairs, named like en-de.tsv; many.",
)
@click.option("--size", default=8000, show_default=True)
def main(folder: Path, data: tuple[Path, ...], size: int) -> None:
    languages = list(dict.fromkeys(language for path in data for language in corpus.direction(path)))
    texts = [f" {side}" for path in data for pair in corpus.read(path) for side in pair]
    folder.mkdir(parents=True, exist_ok=True)
    save(train(texts, languages, size), folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(config(languages), indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("TARGET", languages[-1]))
    click.echo(f"{folder}: {size} tokens from {len(texts)} sentences; tags {', '.join(special(languages)[3:-1])}")


if __name__ == "__main__":
    main()
