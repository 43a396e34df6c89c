"""A small writer of ONNX graphs whose weights lie in an external data file that is never loaded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeslm._version import __version__
from edgeslm.errors import MissingExtraError
from edgeslm.manifest import PartEntry

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 21, 10
CONTRIB = "com.microsoft"  # onnxruntime's own operators: docs/ContribOperators.md

# TensorProto.DataType
_TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}


class Graph:
    """Nodes, initialisers, inputs and outputs in order of their making; values are names."""

    def __init__(self, data_file: str) -> None:
        """``data_file`` is the name of the external file, beside the ``.onnx`` file.

        Raises:
            MissingExtraError: the onnx package is not installed.
        """
        try:
            import onnx
        except ModuleNotFoundError:
            raise MissingExtraError("conversion to ONNX", "onnx", "convert") from None
        self._onnx = onnx
        self._data_file = data_file
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output, whose name is returned."""
        output = f"{kind}_{len(self._nodes)}"
        self.node(kind, inputs, (output,), domain, **attributes)
        return output

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """One node with named outputs."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, outputs, name, domain=domain, **attributes))

    def constant(self, value: Sequence[int] | int | float) -> str:
        """An inline int64 list, int64 scalar or float32 scalar; equal ones are shared."""
        name = f"const_{value}".replace(" ", "")
        kind = _TYPES["float32"] if isinstance(value, float) else _TYPES["int64"]
        dims = [len(value)] if isinstance(value, Sequence) else []
        values = value if isinstance(value, Sequence) else [value]
        self._initializers.setdefault(name, self._onnx.helper.make_tensor(name, kind, dims, values))
        return name

    def external(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int], part: PartEntry) -> str:
        """An initialiser that lies in the data file."""
        if name not in self._initializers:
            tensor = self._onnx.TensorProto(name=name, data_type=_TYPES[np.dtype(dtype).name], dims=shape)
            tensor.data_location = self._onnx.TensorProto.EXTERNAL
            for key, value in (("location", self._data_file), ("offset", part.offset), ("length", part.bytes)):
                tensor.external_data.add(key=key, value=str(value))
            self._initializers[name] = tensor
        return name

    def cast(self, x: str, dtype: str) -> str:
        """``x`` as another type."""
        return self.op("Cast", x, to=_TYPES[dtype])

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """An input of the graph; dimensions that vary are named."""
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declare a value as an output of the graph."""
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def serialize(self, name: str, metadata: dict[str, str]) -> bytes:
        """The bytes of the ``.onnx`` file; ``metadata`` is carried for its readers."""
        graph = self._onnx.helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = self._onnx.helper.make_model(
            graph,
            opset_imports=[self._onnx.helper.make_opsetid("", OPSET), self._onnx.helper.make_opsetid(CONTRIB, 1)],
            ir_version=IR_VERSION,
            producer_name="edgeslm",
            producer_version=__version__,
        )
        self._onnx.helper.set_model_props(model, metadata)
        data: bytes = model.SerializeToString()
        return data
