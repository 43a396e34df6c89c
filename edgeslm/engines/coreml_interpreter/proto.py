"""The message classes of Core ML's format, taken out of coremltools without importing it.

``import coremltools`` takes seconds, looks for torch and TensorFlow, and warns; its generated message classes need
nothing of that, only protobuf.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any

from edgeslm.errors import BundleError, MissingExtraError

MAX_MODEL_BYTES = 32 << 20  # weights lie outside; a model of a hundred layers is about 4 MB
_FOLDER = "_edgeslm_coreml_proto"


def parse_model(raw: bytes) -> Any:
    """The ``Model`` message in ``raw``.

    Raises:
        MissingExtraError: coremltools is not installed.
        BundleError: the bytes are no such message, or too many.
    """
    if len(raw) > MAX_MODEL_BYTES:
        raise BundleError(f"model.mlmodel: {len(raw)} bytes; expected at most {MAX_MODEL_BYTES}, weights lie outside")
    model = model_class()()
    try:
        model.ParseFromString(raw)
    except Exception as error:  # protobuf's DecodeError, whose class depends on the implementation in use
        raise BundleError(f"model.mlmodel: not a Core ML model ({error}); convert the model again") from None
    return model


@cache
def model_class() -> Any:
    """The class of ``Model`` messages; MissingExtraError where coremltools is not installed."""
    spec = importlib.util.find_spec("coremltools")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("google.protobuf") is None:
        raise MissingExtraError("reading a .mlpackage", "coremltools", "coreml")
    package = ModuleSpec(_FOLDER, None, is_package=True)
    package.submodule_search_locations = [f"{spec.submodule_search_locations[0]}/proto"]
    sys.modules[_FOLDER] = importlib.util.module_from_spec(package)
    return importlib.import_module(f"{_FOLDER}.Model_pb2").Model
