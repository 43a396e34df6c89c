"""config.json as a test writes it, read as from a file."""

from __future__ import annotations

import json
from typing import Any

from edgeslm.converters.config import Config
from edgeslm.converters.families import family_of
from edgeslm.spec import DecoderSpec


def read(values: dict[str, Any]) -> DecoderSpec:
    config = Config(json.loads(json.dumps(values)), "config.json")
    spec = family_of(config).read_spec(config)
    config.check_all_read()
    return spec


def windows(values: dict[str, Any]) -> list[int]:
    return [block.mixer.window for block in read(values).layers]
