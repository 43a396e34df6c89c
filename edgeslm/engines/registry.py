"""Engines by name, opened on a bundle. Each one's libraries are imported only when it is opened."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from edgeslm.bundle import Bundle
from edgeslm.engines.protocol import Engine
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import ArgumentError, BundleError
from edgeslm.memory_check import check_memory

Opener = Callable[[Bundle, int, str | None], Engine]  # bundle, threads, kv_dtype


def _native(bundle: Bundle, threads: int, kv_dtype: str | None) -> Engine:
    from edgeslm.engines.native import NativeEngine

    return NativeEngine.open(bundle, threads, kv_dtype)


def _onnxruntime(bundle: Bundle, threads: int, kv_dtype: str | None) -> Engine:
    from edgeslm.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine.open(bundle, threads)


def _litert(bundle: Bundle, threads: int, kv_dtype: str | None) -> Engine:
    from edgeslm.engines.litert import LitertEngine

    return LitertEngine.open(bundle, threads)


def _reference(bundle: Bundle, threads: int, kv_dtype: str | None) -> Engine:
    from edgeslm.bundle_weights import BundleWeights
    from edgeslm.engines.reference import ReferenceEngine

    return ReferenceEngine(bundle.spec, BundleWeights(bundle), fingerprint=bundle.fingerprint("onnx"))


def _coreml(bundle: Bundle, threads: int, kv_dtype: str | None) -> Engine:
    from edgeslm.engines.coreml import CoreMlEngine

    return CoreMlEngine.open(bundle, threads)


# In order of preference; each serves the target named beside it.
ENGINES: dict[str, tuple[str, Opener]] = {
    "native": ("onnx", _native),
    "onnxruntime": ("onnx", _onnxruntime),
    "litert": ("litert", _litert),
    "coreml": ("coreml", _coreml),
    "reference": ("onnx", _reference),
}


def has_native_kernels() -> bool:
    """Was this installation built with them? A pure-Python one, as for 32-bit ARM, was not."""
    return importlib.util.find_spec("edgeslm._native") is not None


def unavailable(name: str) -> str:
    """Why an engine cannot be used here, or "" if it can."""
    if name == "native" and not has_native_kernels():
        return "this installation is pure Python, without native kernels: the NumPy engine, reference, is used instead"
    if name == "onnxruntime" and importlib.util.find_spec("onnxruntime") is None:
        return 'onnxruntime is not installed: pip install "edgeslm[onnx]"'
    if name == "litert" and importlib.util.find_spec("ai_edge_litert") is None:
        from edgeslm.engines.litert_runtime import tflite_note

        return 'ai-edge-litert is not installed: pip install "edgeslm[litert]"' + tflite_note()
    if name == "coreml" and importlib.util.find_spec("coremltools") is None:
        return 'coremltools is not installed: pip install "edgeslm[coreml]"'
    return ""


def engines_for(bundle: Bundle, target: str) -> list[str]:
    """Engines that can run a target here, best first; the oracle counts only where there are no native kernels."""
    bundle.target(target)
    counted = [n for n, (t, _) in ENGINES.items() if t == target and (n != "reference" or not has_native_kernels())]
    return [name for name in counted if not unavailable(name)]


def open_engine(
    bundle: Bundle, name: str = "auto", threads: int | None = None, force: bool = False, kv_dtype: str | None = None
) -> Engine:
    """Open an engine on a bundle; "auto" takes the best one that serves a target of the bundle.

    ``force`` opens it even where it will not fit the memory that there is. ``kv_dtype`` says how keys and values are
    kept: "f16", "f32" or "int8" on the native engine; the others have one way each, and refuse any other. None: the
    engine's default.

    Raises:
        ArgumentError: no such engine, an impossible number of threads, or a kv_dtype that the engine does not have.
        MissingExtraError: the engine needs a package that is not installed.
        BundleError: the bundle lacks what the engine runs.
        MemoryLimitError: it will not fit.
    """
    if name == "auto":
        usable = [n for t in bundle.manifest.targets for n in engines_for(bundle, t)]
        if not usable:
            have = ", ".join(bundle.manifest.targets) or "none"
            raise BundleError(
                f"{bundle.folder}: no engine here runs its targets (it has: {have}); edgeslm doctor tells more"
            )
        name = usable[0]
    if name not in ENGINES:
        raise ArgumentError(f"engine: expected auto, {', '.join(ENGINES)}; found {name!r}")
    (target, opener), count = ENGINES[name], resolve_threads(threads)
    check_memory(bundle, name, target, count, force, kv_dtype)
    engine = opener(bundle, count, kv_dtype)
    if kv_dtype not in (None, engine.kv_type):
        engine.close()
        raise ArgumentError(
            f"kv_dtype: {name} keeps keys and values as {engine.kv_type}, found {kv_dtype!r}: leave it out, or use the "
            "native engine"
        )
    return engine
