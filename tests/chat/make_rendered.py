"""Write rendered.json: what transformers renders for each template and conversation (needs transformers).

PYTHONPATH=tests/support python tests/chat/make_rendered.py
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from chat_conversations import CONVERSATIONS
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class Frozen(datetime.datetime):
    """The clock stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime.datetime:
        return NOW


def render(tokenizer: Any, template: str, arguments: dict[str, Any]) -> dict[str, str]:
    """The text, or what went wrong."""
    given = {"add_generation_prompt": True, **arguments}
    try:
        text = tokenizer.apply_chat_template(given.pop("messages"), chat_template=template, tokenize=False, **given)
    except Exception as error:
        return {"error": type(error).__name__}
    return {"text": text}


def main() -> None:
    chat_template_utils.datetime = Frozen
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
    rendered = {
        path.stem: {name: render(tokenizer, path.read_text(), given) for name, given in CONVERSATIONS.items()}
        for path in sorted((HERE / "templates").glob("*.jinja"))
    }
    (HERE / "rendered.json").write_text(json.dumps(rendered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
