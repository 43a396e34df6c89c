"""Which files a checkpoint consists of, and plain words for what is not one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeslm.converters.safetensors_file import StoredTensor, read_safetensors
from edgeslm.errors import CheckpointError, MissingExtraError, UnsupportedModelError
from edgeslm.log import logger
from edgeslm.manifest import parse_json

log = logger("convert")

CONFIG = "config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_JSON_BYTES = 64 << 20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "LICENSE*", "LICENCE*", "NOTICE*", "README.md"]


def read_json(path: Path) -> object:
    """A JSON file of a checkpoint.

    Raises:
        CheckpointError: it cannot be read, or is not strict JSON.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is missing; expected a Hugging Face checkpoint folder") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_json(raw, str(path), CheckpointError, _MAX_JSON_BYTES)


def locate(source: str | Path) -> Path:
    """The folder of a checkpoint; a Hub id (``org/name``) that is no local path is downloaded.

    Raises:
        CheckpointError: there is none, or it is something else.
        UnsupportedModelError: it is a LoRA adapter, a GGUF file or a pickle.
    """
    folder = Path(source)
    if folder.is_dir():
        _refuse_other_kinds(folder)
        return folder
    if folder.exists():
        raise _not_a_folder(folder)
    if _HUB_ID.fullmatch(str(source)):
        return _download(str(source))
    raise _not_found(folder)


def locate_config(source: str | Path) -> Path:
    """``config.json`` of a checkpoint; of a Hub id that is no local path, this file alone is downloaded.

    Raises:
        CheckpointError: there is none.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder / CONFIG
    if folder.exists():
        raise _not_a_folder(folder)
    if not _HUB_ID.fullmatch(str(source)):
        raise _not_found(folder)
    return _from_hub(str(source), lambda hub: hub.hf_hub_download(str(source), CONFIG))


def _not_found(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: no such folder; expected a Hugging Face checkpoint folder, or org/name")


def _not_a_folder(path: Path) -> Exception:
    if path.suffix == ".gguf":
        return _gguf(path)
    if any(path.match(pattern) for pattern in _PICKLES):
        return _pickle(path)
    return CheckpointError(f"{path}: is a file; expected the folder with config.json and {SINGLE}")


def _refuse_other_kinds(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise UnsupportedModelError(
            f"{folder}: is a LoRA adapter; adapters are not supported yet: merge it into its base model "
            "(peft: merge_and_unload(), then save_pretrained) and convert the result"
        )
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return
    for pattern, refusal in (("*.gguf", _gguf), *((p, _pickle) for p in _PICKLES)):
        for path in sorted(folder.glob(pattern)):
            raise refusal(path)
    raise CheckpointError(f"{folder}: holds neither {SINGLE} nor {INDEX}; expected a Hugging Face checkpoint folder")


def _gguf(path: Path) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{path}: GGUF files are not supported yet: convert the Hugging Face checkpoint it was made from"
    )


def _pickle(path: Path) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{path}: pickled weights are refused, because opening a pickle runs whatever code is in it: get the "
        "safetensors version, or save one with transformers' save_pretrained where you trust the file"
    )


def _download(hub_id: str) -> Path:
    log.info("%s is no local folder: downloading it from the Hugging Face Hub", hub_id)
    folder = _from_hub(hub_id, lambda hub: hub.snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    _refuse_other_kinds(folder)
    return folder


def _from_hub(hub_id: str, get: Callable[[Any], str]) -> Path:
    """What ``get`` downloads with the library, or finds in its cache."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError:
        raise MissingExtraError(f"downloading {hub_id}", "huggingface-hub", "convert") from None
    try:
        return Path(get(huggingface_hub))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{hub_id}: no such folder here, and not to be had from the Hugging Face Hub "
            f"({reason[0] if reason else type(error).__name__}): check the name and the network, or give a "
            "local folder"
        ) from None


def read_tensors(folder: Path) -> tuple[dict[str, StoredTensor], list[Path]]:
    """Every tensor of a checkpoint by its name there, and the files that hold them.

    Raises:
        CheckpointError: a file is damaged or missing, or the index and its shards disagree.
    """
    if (folder / SINGLE).exists():  # as transformers does where both are there
        return read_safetensors(folder / SINGLE), [folder / SINGLE]
    index = read_json(folder / INDEX)
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(v, str) for v in table.values()):
        raise CheckpointError(f"{folder / INDEX}: expected weight_map, an object of tensor name → file name")
    shards = {name: read_safetensors(folder / _plain_name(name, folder)) for name in sorted(set(table.values()))}
    held = [(tensor, shard) for shard, tensors in shards.items() for tensor in tensors]
    astray = sorted(f"{tensor} in {shard}" for tensor, shard in set(held) ^ set(table.items()))
    if astray:
        raise CheckpointError(
            f"{folder / INDEX}: the index and its shards disagree about {', '.join(astray[:8])}: download them again"
        )
    return {tensor: shards[shard][tensor] for tensor, shard in held}, [folder / name for name in shards]


def _plain_name(name: str, folder: Path) -> str:
    if not re.fullmatch(r"[\w-][\w.-]{0,200}\.safetensors", name):
        raise CheckpointError(f"{folder / INDEX}: {name!r} is not the name of a safetensors file in this folder")
    return name
