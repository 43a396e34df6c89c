"""Leaves out of a checkpoint the tokens that its training data hardly uses, with their rows of the embedding.

\b
    python prune.py runs/student runs/student-6k --size 6000 --data data/train/en-de.tsv --data distilled/en-de.tsv

Kept are the special tokens, the 256 bytes, and the most used others with all that they are merged from, so any text
can still be written: a word whose token is gone becomes several. Train on for a while behind it (`train.py
--start`).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import click
import corpus
from tokenizers import Tokenizer
from vocabulary import save


def pairs(outline: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges of a tokenizer.json, which older ones write as "a b"."""
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in outline["model"]["merges"])
    return [(a, b) for a, b in merges]


def parts(outline: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What each merged token is made of."""
    return {a + b: (a, b) for a, b in pairs(outline)}


def chosen(vocabulary: dict[str, int], made_of: dict[str, tuple[str, str]], uses: Counter[str], size: int) -> set[str]:
    """Tokens to keep, at most `size`: those that are no merge, and the most used merges with what they are made of."""
    keep = {token for token in vocabulary if token not in made_of}

    def needed(token: str) -> set[str]:
        return set() if token in keep else {token}.union(*(needed(part) for part in made_of[token]))

    for token, _ in uses.most_common():
        if len(keep) + len(more := needed(token)) <= size:
            keep |= more
    return keep


def smaller(outline: dict[str, Any], keep: set[str]) -> tuple[dict[str, Any], list[int]]:
    """tokenizer.json of the tokens to keep, and which row each new id had."""
    model = outline["model"]
    rows = sorted(identity for token, identity in model["vocab"].items() if token in keep)
    new = {old: index for index, old in enumerate(rows)}
    merges = [[a, b] for a, b in pairs(outline) if {a, b, a + b} <= keep]
    vocabulary = {
        token: new[old] for token, old in sorted(model["vocab"].items(), key=lambda item: item[1]) if token in keep
    }
    added = [{**token, "id": new[token["id"]]} for token in outline["added_tokens"]]
    return {
        **outline,
        "added_tokens": added,
        "model": {**model, "vocab": vocabulary, "merges": merges},
    }, rows


def shrink(folder: Path, out: Path, rows: list[int]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            tensors[name] = tensors[name][rows].contiguous()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "vocab_size": len(rows)}, indent=1) + "\n")


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--data", multiple=True, required=True, type=click.Path(path_type=Path, exists=True), help="Training pairs; many."
)
@click.option("--size", required=True, type=int, help="Tokens to keep at most.")
def main(folder: Path, out: Path, data: tuple[Path, ...], size: int) -> None:
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [f" {side}" for path in data for pair in corpus.read(path) for side in pair]
    uses = Counter(token for found in tokens.encode_batch(texts, add_special_tokens=False) for token in found.tokens)
    outline = json.loads(tokens.to_str())
    smaller_outline, rows = smaller(outline, chosen(outline["model"]["vocab"], parts(outline), uses, size))
    out.mkdir(parents=True, exist_ok=True)
    shrink(folder, out, rows)
    save(Tokenizer.from_str(json.dumps(smaller_outline)), out / "tokenizer.json")
    for name in ("generation_config.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, out / name)
    lost = sum(count for token, count in uses.items() if token not in smaller_outline["model"]["vocab"])
    share = f"{lost / max(1, uses.total()):.2%} of the data's tokens are now several"
    click.echo(f"{out}: {len(rows)} of {tokens.get_vocab_size()} tokens; {share}")


if __name__ == "__main__":
    main()
