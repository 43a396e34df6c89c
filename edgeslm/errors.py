"""The exceptions of edgeslm. Each message says what was expected, what was found, where, and what to do next.

EdgeslmError
├── ModelFormatError        a file is damaged, hostile, or of a format this version cannot read
│   ├── BundleError         … in a bundle (edgeslm.json and the files it names)
│   ├── CheckpointError     … in a Hugging Face checkpoint
│   ├── SessionFileError    … a saved session, which may also belong to another bundle or engine
│   └── TemplateError       … in a chat template, or there is none
├── UnsupportedModelError   a sound checkpoint that edgeslm cannot represent (family, rope kind, unknown key)
├── EngineError             an engine could not be opened or failed while running
│   ├── CancelledError      … or was stopped by cancel()
│   └── MemoryLimitError    … or would need more memory than there is
├── MissingExtraError       an optional dependency is needed; names the extra to install
├── ArgumentError           a value given by the caller is out of range (also a ValueError)
│   └── ContextLengthError  the prompt and the requested tokens do not fit the context
└── RewindError             a session was asked to go back to a state that it no longer holds
"""

from __future__ import annotations


class EdgeslmError(Exception):
    """Base of everything that edgeslm raises on purpose."""


class ModelFormatError(EdgeslmError):
    """A model file is damaged, hostile, or written in a format that this version cannot read."""


class BundleError(ModelFormatError):
    """A bundle (``edgeslm.json`` and the files it names) cannot be used."""


class CheckpointError(ModelFormatError):
    """A Hugging Face checkpoint cannot be read."""


class SessionFileError(ModelFormatError):
    """A saved session is damaged, was saved by another bundle, engine or kind of cache, or cannot be written."""


class TemplateError(ModelFormatError):
    """A chat template is absent, fails, or wants more work or text than a conversation needs."""


class UnsupportedModelError(EdgeslmError):
    """A readable checkpoint that edgeslm cannot represent exactly, and therefore refuses."""


class EngineError(EdgeslmError):
    """An engine could not be opened, or failed while running."""


class CancelledError(EngineError):
    """A run was stopped by ``cancel()``; the session holds what it held before."""

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)


class MemoryLimitError(EngineError):
    """A model would need more memory than this process can get; it was not loaded."""


class MissingExtraError(EdgeslmError):
    """An optional dependency is needed for what was asked."""

    def __init__(self, purpose: str, package: str, extra: str, note: str = "") -> None:
        super().__init__(f'{purpose} needs {package}, which is not installed: pip install "edgeslm[{extra}]"{note}')
        self.extra = extra


class ArgumentError(EdgeslmError, ValueError):
    """A value given by the caller is of the wrong type or out of range."""


class ContextLengthError(ArgumentError):
    """The prompt and the requested tokens do not fit the model's context."""


class RewindError(EdgeslmError):
    """A session was asked to go back to a position whose cache rows it no longer holds."""
