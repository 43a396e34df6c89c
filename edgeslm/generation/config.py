"""A model's generation_config.json: read, and the tokens that end its texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeslm.errors import ModelFormatError

GENERATION_CONFIG = "generation_config.json"


def read_config(raw: bytes) -> dict[str, Any]:
    """The content of the file.

    Raises:
        ModelFormatError: not a JSON object.
    """
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{GENERATION_CONFIG}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise ModelFormatError(f"{GENERATION_CONFIG}: expected an object, found {type(config).__name__}")
    return config


def eos_ids(config: Mapping[str, Any], eos_id: int | None) -> frozenset[int]:
    """``eos_token_id``: an id, or a list of ids; ``eos_id``, the tokenizer's end-of-text token, where it is not given.

    Raises:
        ModelFormatError: it is anything else.
    """
    found = config.get("eos_token_id")
    if found is None:
        found = [] if eos_id is None else [eos_id]
    ids = found if isinstance(found, list) else [found]
    if not all(type(i) is int for i in ids):
        raise ModelFormatError(f"{GENERATION_CONFIG}: eos_token_id: expected an id or a list of ids, found {found!r}")
    return frozenset(ids)
