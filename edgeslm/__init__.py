"""Run small language models offline, on the device: ``edgeslm.load(path)``, then ``generate`` or ``stream``."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgeslm._version import __version__

if not (Path(__file__).parent / "converters").is_dir():
    # Python was started in a source tree, which hides the installed package: its modules come first.
    import pkgutil  # seldom needed, and slow to import

    __path__ = list(reversed(pkgutil.extend_path(__path__, __name__)))

if TYPE_CHECKING:
    from edgeslm.api import EngineInfo, Model, load
    from edgeslm.chat import Chat
    from edgeslm.engines.session import Session, forward_together
    from edgeslm.errors import (
        ArgumentError,
        BundleError,
        CancelledError,
        CheckpointError,
        ContextLengthError,
        EdgeslmError,
        EngineError,
        MemoryLimitError,
        MissingExtraError,
        ModelFormatError,
        RewindError,
        SessionFileError,
        TemplateError,
        UnsupportedModelError,
    )
    from edgeslm.generation.loop import Generation
    from edgeslm.generation.options import GenerationArguments
    from edgeslm.generation.result import ChosenLogprob, GenerationResult, Memory, Timings, TokenLogprob
    from edgeslm.prefix import Prefix
    from edgeslm.tokenizer import Tokenizer
    from edgeslm.translation.translator import Translation, Translator

__all__ = [
    "ArgumentError",
    "BundleError",
    "CancelledError",
    "Chat",
    "CheckpointError",
    "ChosenLogprob",
    "ContextLengthError",
    "EdgeslmError",
    "EngineError",
    "EngineInfo",
    "Generation",
    "GenerationArguments",
    "GenerationResult",
    "Memory",
    "MemoryLimitError",
    "MissingExtraError",
    "Model",
    "ModelFormatError",
    "Prefix",
    "RewindError",
    "Session",
    "SessionFileError",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "Tokenizer",
    "Translation",
    "Translator",
    "UnsupportedModelError",
    "__version__",
    "forward_together",
    "load",
]

# Imported on first use, so that importing edgeslm costs next to nothing.
_HOMES = {
    "Chat": "chat",
    "ChosenLogprob": "generation.result",
    "EngineInfo": "api",
    "Generation": "generation.loop",
    "GenerationArguments": "generation.options",
    "GenerationResult": "generation.result",
    "Memory": "generation.result",
    "Model": "api",
    "Prefix": "prefix",
    "forward_together": "engines.session",
    "load": "api",
    "Session": "engines.session",
    "Timings": "generation.result",
    "TokenLogprob": "generation.result",
    "Tokenizer": "tokenizer",
    "Translation": "translation.translator",
    "Translator": "translation.translator",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
