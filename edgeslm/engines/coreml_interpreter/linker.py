"""Linking: every name, operation, argument and declared type of a function checked once, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeslm.engines.coreml_interpreter import ops  # noqa: F401  (fills OPS)
from edgeslm.engines.coreml_interpreter.blobs import Blob, Blockwise, Room, Weight
from edgeslm.engines.coreml_interpreter.budget import Limits
from edgeslm.engines.coreml_interpreter.program import Argument, Function, Literal, Operation
from edgeslm.engines.coreml_interpreter.signature import ANY, OPS, Op, Param, Value, tensor
from edgeslm.engines.coreml_interpreter.types import MAX_RANK, Array, OpError, TensorType
from edgeslm.errors import BundleError

KEPT_BYTES = 256 << 20  # of weights as float32, so that they are dequantised once; the rest at each use
SMALL = 1 << 16  # elements; constants up to this size are read when a program is linked
_BLOCKWISE = "constexpr_blockwise_shift_scale"
_STORED = ("int4", "uint4", "int8", "uint8", "fp16", "fp32")


@dataclass(frozen=True)
class Step:
    """One operation, ready to run.

    Attributes:
        fixed: arguments that are constants, converted.
        slots: parameter → (how to convert, names of values).
        dead: names that no later operation uses.
    """

    type: str
    op: Op | None  # None: reading or writing a state
    fixed: dict[str, Any]
    slots: dict[str, tuple[Param, tuple[str, ...]]]
    state: str
    outputs: tuple[tuple[str, TensorType], ...]
    dead: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.type} {self.outputs[0][0] if self.outputs else self.state}"


class Linker:
    """Goes through a function in order, so that every name is defined before it is used, and once."""

    def __init__(self, function: Function, limits: Limits) -> None:
        self._function = function
        self._limits = limits
        self._room = Room(KEPT_BYTES)
        self._types: dict[str, TensorType] = dict(function.inputs)
        self._constants: dict[str, Value] = {}

    def link(self) -> tuple[dict[str, Value], list[Step]]:
        used = _last_uses(self._function)
        steps = []
        for index, operation in enumerate(self._function.operations):
            try:
                step = self._link(operation, used.get(index, ()))
            except OpError as error:
                name = operation.outputs[0][0] if operation.outputs else ""
                raise BundleError(f"Core ML program: {operation.type[:80]} {name[:80]}: {error}") from None
            if step is not None:
                steps.append(step)
        for name in self._function.outputs:
            if name not in self._types or self._types[name].dtype == "string":
                raise BundleError(f"Core ML program: output {name[:80]!r} is not computed")
        return self._constants, steps

    def _link(self, operation: Operation, last: tuple[str, ...]) -> Step | None:
        for name, kind in operation.outputs:
            if name in self._types or name in self._function.states:
                raise OpError(f"the name {name[:80]!r} is defined twice")
            constant = operation.type == "const" or operation.type.startswith("constexpr_")
            if len(kind.shape) > MAX_RANK and not constant:
                raise OpError(f"{kind}: Core ML has tensors of rank up to {MAX_RANK}")
            if kind.size > self._limits.elements:
                raise OpError(f"{kind} is larger than anything this model can need")
        step = self._bind(operation, last)
        self._types.update(operation.outputs)
        return step

    def _bind(self, operation: Operation, last: tuple[str, ...]) -> Step | None:
        if operation.type == "const":
            self._const(operation)
            return None
        if operation.type == _BLOCKWISE:
            self._blockwise(operation)
            return None
        if operation.type in ("read_state", "write_state"):
            return self._state(operation, last)
        if operation.type not in OPS:
            raise OpError("this interpreter does not know the operation")
        op = OPS[operation.type]
        fixed, slots = self._arguments(op.params, operation.inputs)
        return Step(operation.type, op, fixed, slots, "", operation.outputs, self._dead(last))

    def _dead(self, last: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in last if n not in self._constants)

    def _type(self, argument: Argument) -> TensorType:
        if isinstance(argument, Literal):
            return argument.type
        if argument not in self._types:
            raise OpError(f"{argument[:80]!r} is used before it is defined")
        return self._types[argument]

    def _arguments(
        self, params: Mapping[str, Param], inputs: Mapping[str, tuple[Argument, ...]]
    ) -> tuple[dict[str, Any], dict[str, tuple[Param, tuple[str, ...]]]]:
        """The arguments of an operation, checked against its parameters: constants converted, and names."""
        unknown = set(inputs) - set(params)
        if unknown:
            raise OpError(f"it has no parameter {', '.join(sorted(unknown))[:80]}")
        fixed: dict[str, Any] = {}
        slots: dict[str, tuple[Param, tuple[str, ...]]] = {}
        types: dict[str, str] = {}
        for name, param in params.items():
            arguments = inputs.get(name, ())
            if not arguments:
                if param.required:
                    raise OpError(f"{name} is missing")
                fixed[name] = param.default
                continue
            self._check_types(name, param, arguments, types)
            constants = [self._constant(a) for a in arguments]
            if param.kind != "tensors" and constants[0] is not None:
                fixed[name] = param.convert(constants[0])
            elif param.const:
                raise OpError(f"{name}: expected a constant")
            else:
                slots[name] = (param, tuple(self._named(a) for a in arguments))
        return fixed, slots

    def _check_types(self, name: str, param: Param, arguments: tuple[Argument, ...], types: dict[str, str]) -> None:
        if len(arguments) > 1 and param.kind != "tensors":
            raise OpError(f"{name}: expected one argument, found {len(arguments)}")
        for argument in arguments:
            dtype = self._type(argument).dtype
            if dtype not in param.domain.types:
                raise OpError(f"{name}: expected {', '.join(sorted(param.domain.types))}; found {dtype}")
            if param.domain.name and types.setdefault(param.domain.name, dtype) != dtype:
                raise OpError(f"{name}: is {dtype}, and another argument {types[param.domain.name]}")

    def _constant(self, argument: Argument) -> Value | None:
        if isinstance(argument, Literal):
            return argument.value.array() if isinstance(argument.value, Blob) else argument.value
        return self._constants.get(argument)

    def _named(self, argument: Argument) -> str:
        """The name of an argument, made up for a constant among several."""
        if isinstance(argument, str):
            return argument
        name = f"\0{len(self._constants)}"  # no name of a program has a zero in it that matters
        constant = self._constant(argument)
        assert constant is not None
        self._constants[name] = constant
        return name

    def _const(self, operation: Operation) -> None:
        literal = operation.value
        if literal is None or len(operation.outputs) != 1 or operation.outputs[0][1] != literal.type:
            raise OpError("it does not declare the type of its value")
        name, kind = operation.outputs[0]
        value = literal.value
        if isinstance(value, Blob):
            large = kind.dtype in _STORED and value.shape and kind.size > SMALL
            self._constants[name] = Weight(kind, value, self._room) if large else value.array()
        else:
            self._constants[name] = value

    def _blockwise(self, operation: Operation) -> None:
        data, scale, offset = (self._stored(operation, k) for k in ("data", "scale", "offset"))
        if data is None or scale is None or set(operation.inputs) - {"data", "scale", "offset"}:
            raise OpError("expected data, scale and maybe offset")
        (kind, values), (scale_kind, scales) = data, scale
        if len(operation.outputs) != 1 or operation.outputs[0][1] != TensorType(scale_kind.dtype, kind.shape):
            raise OpError(f"it does not declare {TensorType(scale_kind.dtype, kind.shape)}")
        if kind.dtype not in _STORED or scale_kind.dtype not in ("fp16", "fp32") or not kind.shape:
            raise OpError(f"data is {kind} and scale {scale_kind}")
        shape, blocks = values.shape, scales.shape
        if len(shape) != len(blocks) or any(d % b for d, b in zip(shape, blocks, strict=True)):
            raise OpError(f"data of shape {list(shape)} is not in blocks of equal size for {list(blocks)} scales")
        if offset is not None and (offset[1].shape != blocks or offset[0].dtype not in (kind.dtype, "fp16", "fp32")):
            raise OpError(f"offset is {offset[0]}, and scale {scale_kind} for {kind.dtype}")
        blockwise = Blockwise(values, _whole(scales), None if offset is None else _whole(offset[1]))
        name, result = operation.outputs[0]
        self._constants[name] = Weight(result, blockwise, self._room)

    def _stored(self, operation: Operation, parameter: str) -> tuple[TensorType, Blob | Array] | None:
        """A constant argument with its type, not read yet where it lies in a file."""
        arguments = operation.inputs.get(parameter, ())
        if not arguments:
            return None
        argument = arguments[0]
        value = argument.value if isinstance(argument, Literal) else self._constants.get(argument)
        if len(arguments) > 1 or value is None or isinstance(value, str):
            raise OpError(f"{parameter}: expected a constant tensor")
        return self._type(argument), value.array() if isinstance(value, Weight) else value

    def _state(self, operation: Operation, last: tuple[str, ...]) -> Step:
        names = operation.inputs.get("input", ())
        state = names[0] if len(names) == 1 else None
        if not isinstance(state, str) or state not in self._function.states:
            raise OpError("input: expected a state")
        kind, reading = self._function.states[state], operation.type == "read_state"
        wanted = {"input"} if reading else {"input", "data"}
        declared = (
            [t for _, t in operation.outputs] if reading else [self._type(a) for a in operation.inputs.get("data", ())]
        )
        if set(operation.inputs) != wanted or declared != [kind] or (not reading and operation.outputs):
            raise OpError(f"expected {'its result' if reading else 'data'} to be of the state's type, {kind}")
        data: dict[str, tuple[Param, tuple[str, ...]]] = {}
        if not reading:
            data["data"] = (tensor(ANY), (self._named(operation.inputs["data"][0]),))
        return Step(operation.type, None, {}, data, state, operation.outputs, self._dead(last))


def _whole(value: Blob | Array) -> Array:
    return value.array() if isinstance(value, Blob) else value


def _last_uses(function: Function) -> dict[int, tuple[str, ...]]:
    """Index of an operation → names that nothing after it uses, outputs of the function apart."""
    last: dict[str, int] = {}
    for index, operation in enumerate(function.operations):
        last |= {name: index for name, _ in operation.outputs}
        last |= {a: index for arguments in operation.inputs.values() for a in arguments if isinstance(a, str)}
    found: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in function.outputs and name not in function.states:
            found.setdefault(index, []).append(name)
    return {index: tuple(names) for index, names in found.items()}
