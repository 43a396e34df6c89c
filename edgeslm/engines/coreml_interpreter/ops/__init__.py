"""The ops of MIL that the interpreter knows, as coremltools documents them for iOS 18 (opset CoreML8)."""

from edgeslm.engines.coreml_interpreter.ops import (  # noqa: F401  (each adds its ops when it is imported)
    arrange,
    elementwise,
    gather,
    products,
    reduce,
    slices,
)
