"""Running a linked program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeslm.engines.coreml_interpreter.blobs import Weight
from edgeslm.engines.coreml_interpreter.budget import Budget, Limits
from edgeslm.engines.coreml_interpreter.linker import Linker, Step
from edgeslm.engines.coreml_interpreter.package import open_package
from edgeslm.engines.coreml_interpreter.program import Function, read_function
from edgeslm.engines.coreml_interpreter.proto import parse_model
from edgeslm.engines.coreml_interpreter.signature import Value
from edgeslm.engines.coreml_interpreter.types import NUMPY, Array, OpError
from edgeslm.errors import ArgumentError, BundleError, CancelledError, EngineError

States = Mapping[str, Array]


class Interpreter:
    """A linked function of a program. Immutable: states go in and come out of :meth:`run`.

    Attributes:
        function: inputs, states and outputs.
    """

    def __init__(self, function: Function, limits: Limits | None = None) -> None:
        """Link.

        Raises:
            BundleError: an unknown op or parameter, a name used before it is defined, a type that an op does not take.
        """
        self.function = function
        self._limits = limits or Limits()
        sizes = [kind.size for kind in function.states.values()]
        if sum(sizes) > self._limits.held or max(sizes, default=0) > self._limits.elements:
            raise BundleError(f"the states hold {sum(sizes)} elements, more than this model can need")
        self._constants, self._steps = Linker(function, self._limits).link()

    @classmethod
    def open(cls, folder: Path, name: str = "", limits: Limits | None = None) -> Interpreter:
        """Read a ``.mlpackage`` folder and link a function of it, the default one for "".

        Raises:
            BundleError: what is wrong with the package.
            MissingExtraError: coremltools is not installed.
        """
        package = open_package(folder)
        return cls(read_function(parse_model(package.read_model()), name, package.map), limits)

    def new_states(self) -> dict[str, Array]:
        """States as they start, all zero."""
        return {
            name: np.zeros(tuple(d or 0 for d in kind.shape), NUMPY[kind.dtype])
            for name, kind in self.function.states.items()
        }

    def run(
        self, inputs: Mapping[str, Array], states: States, cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Compute the outputs, and the states after it; what was given is not changed.

        Raises:
            CancelledError: ``cancelled``, asked before each operation, said so.
            ArgumentError: inputs that the model does not take.
            EngineError: an operation met values outside of its definition, or a result not of its declared type.
        """
        self._check_inputs(inputs)
        budget, after = Budget(self._limits), dict(states)
        values: dict[str, Value] = {**self._constants, **inputs}
        budget.hold(sum(array.size for array in inputs.values()))
        with np.errstate(all="ignore"):  # inf and NaN are values like others
            for step in self._steps:
                if cancelled():
                    raise CancelledError
                try:
                    for name, array in self._run_step(step, values, after, budget):
                        values[name] = array
                    for name in step.dead:
                        gone = values.pop(name)
                        budget.hold(-gone.size if isinstance(gone, np.ndarray) else 0)
                except OpError as error:
                    raise EngineError(f"Core ML program: {step.where}: {error}") from None
                except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
                    raise EngineError(f"Core ML program: {step.where}: {error or type(error).__name__}") from error
        return {name: _as_array(values[name]) for name in self.function.outputs}, after

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        if set(inputs) != set(self.function.inputs):
            raise ArgumentError(f"expected inputs {sorted(self.function.inputs)}, found {sorted(inputs)}")
        for name, array in inputs.items():
            feature = self.function.features[name]
            if array.dtype != NUMPY[feature.dtype] or not feature.takes(array.shape):
                wanted = f"{feature.dtype} of {list(feature.shapes or feature.bounds)}"
                raise ArgumentError(f"{name}: expected {wanted}, found {array.dtype} of {list(array.shape)}")

    def _run_step(
        self, step: Step, values: dict[str, Value], states: dict[str, Array], budget: Budget
    ) -> list[tuple[str, Array]]:
        arguments = dict(step.fixed)
        for name, (param, names) in step.slots.items():
            converted = [param.convert(values[n]) for n in names]
            arguments[name] = converted if param.kind == "tensors" else converted[0]
        if step.op is None:
            results = _access(step, arguments, states)
        elif step.op.budgeted:
            results = step.op.compute(budget=budget, **arguments)
        else:
            results = step.op.compute(**arguments)
        found = results if isinstance(results, list) else [results]
        if len(found) != len(step.outputs):
            raise OpError(f"{len(found)} results for {len(step.outputs)} outputs")
        named = []
        for (name, kind), result in zip(step.outputs, found, strict=True):
            array = np.asarray(result)
            if not array.size:
                raise OpError(f"{name} has shape {list(array.shape)}: Core ML has no tensors without elements")
            kind.check(array, name)
            budget.spend(array.size)
            budget.hold(array.size)
            named.append((name, array))
        return named


def _access(step: Step, arguments: dict[str, Any], states: dict[str, Array]) -> list[Array]:
    """read_state and write_state; arrays are never changed in place, so a state is the array last written."""
    if step.type == "read_state":
        return [states[step.state]]
    states[step.state] = arguments["data"]
    return []


def _as_array(value: Value) -> Array:
    assert not isinstance(value, str)  # the linker took no text as an output
    return value.array() if isinstance(value, Weight) else value
