"""What is accepted of a ``.tflite`` file, and what is not; the kernels that the checks rely on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_decoders import make_spec, make_weights

from edgeslm.converters.policy import Options
from edgeslm.converters.tflite_graph import Graph, Model
from edgeslm.converters.to_litert import write_tflite
from edgeslm.errors import BundleError
from edgeslm.spec import DecoderSpec
from edgeslm.tflite.check import CacheLayout, check_tflite

SPEC = make_spec(attention={"window": 8})
Bytes = npt.NDArray[np.uint8]


def written(folder: Path, spec: DecoderSpec, options: Options) -> Bytes:
    path = folder / "model.tflite"
    write_tflite(path, spec, options, make_weights(spec), lambda done, total: None)
    return np.fromfile(path, np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    return written(tmp_path_factory.mktemp("tflite"), SPEC, Options("none"))


def test_the_interface_of_a_sound_file(file: Bytes, tmp_path: Path) -> None:
    found = check_tflite(file, SPEC, "m")
    assert found.prefill == (8, 32)
    assert found.caches == (CacheLayout(heads=2, rows=8, width=16, slides=True),) * 2
    full = make_spec()
    found = check_tflite(written(tmp_path, full, Options("none")), full, "m")
    assert found.caches == (CacheLayout(heads=2, rows=64, width=16, slides=False),) * 2


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x08\0\0\0TFL3", bytes(1000), b"\xff" * 1000], ids=range(5))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"m: .*damaged"):
        check_tflite(np.frombuffer(content, np.uint8), SPEC, "m")


def test_a_file_cut_anywhere_in_its_graph_is_refused(file: Bytes) -> None:
    for end in [*range(0, 200), *range(200, 40_000, 997)]:
        with pytest.raises(BundleError):
            check_tflite(file[:end], SPEC, "m")


def test_a_file_cut_in_its_weights_is_refused(file: Bytes) -> None:
    with pytest.raises(BundleError, match="a buffer lies outside"):
        check_tflite(file[:-1], SPEC, "m")


@pytest.mark.parametrize(
    ("changes", "port"),
    [
        ({"vocab_size": 129}, "logits"),
        ({"context_length": 63}, "mask"),
        ({"layout": (0,)}, "kv_cache_k_1: is unknown"),
        ({"layout": (0, 0, 0)}, "kv_cache_k_2: expected float32"),
    ],
    ids=["vocabulary", "context", "fewer layers", "more layers"],
)
def test_another_decoder_is_refused(file: Bytes, changes: dict[str, Any], port: str) -> None:
    with pytest.raises(BundleError, match=f"not the graph of this bundle's decoder.*{port}.*convert the model again"):
        check_tflite(file, dataclasses.replace(SPEC, **changes), "m")


def edited(file: Bytes, change: Callable[[Any, Any], None]) -> Bytes:
    """The file with its graph written anew."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(file.tobytes(), 0)
    change(model, schema)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = np.frombuffer(bytes(builder.Output()), np.uint8)
    changed = file.copy()
    changed[: len(graph)] = graph
    return changed


def operator(model: Any, schema: Any, name: str, skip: int = 0) -> Any:
    """An operator of decode by name, and its subgraph."""
    codes = [c.builtinCode for c in model.operatorCodes]
    graph = model.subgraphs[-1]
    found = [o for o in graph.operators if codes[o.opcodeIndex] == getattr(schema.BuiltinOperator, name)]
    return graph, found[skip]


def test_an_edited_file_without_an_edit_is_accepted(file: Bytes) -> None:
    assert check_tflite(edited(file, lambda model, schema: None), SPEC, "m").prefill == (8, 32)


def custom_operator(model: Any, schema: Any) -> None:
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM


def shape_in_a_tensor(model: Any, schema: Any) -> None:
    graph, linear = operator(model, schema, "FULLY_CONNECTED")
    graph.tensors[linear.outputs[0]].shape = [1, 2**31 - 1]


def weights_of_another_shape(model: Any, schema: Any) -> None:
    graph, linear = operator(model, schema, "FULLY_CONNECTED")
    weight = graph.tensors[linear.inputs[1]]
    weight.shape = [weight.shape[0] * 2, weight.shape[1] // 2]


def a_table_that_is_too_short(model: Any, schema: Any) -> None:
    graph, gather = operator(model, schema, "GATHER")
    index = graph.tensors[gather.inputs[0]].buffer
    model.buffers[index].size //= 2
    for table in (t for g in model.subgraphs for t in g.tensors if t.buffer == index):
        table.shape = [table.shape[0] // 2, table.shape[1]]


def places_that_the_graph_computes(model: Any, schema: Any) -> None:
    _, gather = operator(model, schema, "GATHER")
    _, lookup = operator(model, schema, "EMBEDDING_LOOKUP")
    gather.inputs = [gather.inputs[0], lookup.inputs[0]]  # token ids where positions belong


def an_operand_of_nobody(model: Any, schema: Any) -> None:
    _, linear = operator(model, schema, "FULLY_CONNECTED")
    linear.inputs = [linear.outputs[0], *list(linear.inputs)[1:]]


def written_twice(model: Any, schema: Any) -> None:
    _, first = operator(model, schema, "FULLY_CONNECTED")
    _, second = operator(model, schema, "FULLY_CONNECTED", 1)
    second.outputs = first.outputs


def a_constant_as_result(model: Any, schema: Any) -> None:
    _, linear = operator(model, schema, "FULLY_CONNECTED")
    linear.outputs = [linear.inputs[1]]


def transposed_product(model: Any, schema: Any) -> None:
    _, product = operator(model, schema, "BATCH_MATMUL")
    product.builtinOptions.adjY = False


def slice_beyond_the_end(model: Any, schema: Any) -> None:
    graph, cut = operator(model, schema, "SLICE")
    begin = model.buffers[graph.tensors[cut.inputs[1]].buffer]
    begin.data = np.full(len(begin.data) // 4, 1 << 20, np.int32).view(np.uint8)


def options_of_another_operator(model: Any, schema: Any) -> None:
    _, product = operator(model, schema, "BATCH_MATMUL")
    product.builtinOptionsType, product.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()


def a_variable(model: Any, schema: Any) -> None:
    model.subgraphs[0].tensors[0].isVariable = True


def a_name_twice(model: Any, schema: Any) -> None:
    model.signatureDefs[0].inputs[0].name = model.signatureDefs[0].inputs[1].name


def an_input_left_out(model: Any, schema: Any) -> None:
    del model.signatureDefs[0].inputs[0]


def a_signature_of_another_name(model: Any, schema: Any) -> None:
    model.signatureDefs[0].signatureKey = "prefill_9"


def without_decode(model: Any, schema: Any) -> None:
    model.signatureDefs[-1].signatureKey = "prefill_1"


EDITS = {
    custom_operator: "operators",
    shape_in_a_tensor: "is declared",
    weights_of_another_shape: "a linear of",
    a_table_that_is_too_short: "places that may lie beyond",
    places_that_the_graph_computes: "places that may lie beyond",
    an_operand_of_nobody: "reads what nothing has written",
    written_twice: "writes over another value",
    a_constant_as_result: "writes over another value",
    transposed_product: "a product of",
    slice_beyond_the_end: "a slice of|a change of shape",
    options_of_another_operator: "options of another kind",
    a_variable: "none that edgeslm writes",
    a_name_twice: "one name",
    an_input_left_out: "does not name the subgraph's inputs",
    a_signature_of_another_name: "not the graph of this bundle's decoder",
    without_decode: "no signature 'decode'",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
def test_an_edited_graph_is_refused(file: Bytes, edit: Callable[[Any, Any], None]) -> None:
    with pytest.raises(BundleError, match=EDITS[edit]):
        check_tflite(edited(file, edit), SPEC, "m")


@pytest.mark.parametrize("options", [Options("int8"), Options("int4", group_size=32)], ids=["int8", "int4"])
def test_scales_that_do_not_fit_are_refused(tmp_path: Path, options: Options) -> None:
    def change(model: Any, schema: Any) -> None:
        graph, linear = operator(model, schema, "FULLY_CONNECTED")
        quantization = graph.tensors[linear.inputs[1]].quantization
        if quantization.details is not None:
            quantization.details.blockSize *= 2
        else:
            quantization.scale = quantization.scale[:-1]

    spec = make_spec()
    file = written(tmp_path, spec, options)
    check_tflite(file, spec, "m")
    with pytest.raises(BundleError, match=r"scale"):
        check_tflite(edited(file, change), spec, "m")


def test_int4_rows_of_an_odd_length_are_refused(tmp_path: Path) -> None:
    def change(model: Any, schema: Any) -> None:
        graph, linear = operator(model, schema, "FULLY_CONNECTED")
        weight = graph.tensors[linear.inputs[1]]
        weight.shape = [weight.shape[0] * weight.shape[1], 1]

    spec = make_spec()
    with pytest.raises(BundleError, match="odd length"):
        check_tflite(edited(written(tmp_path, spec, Options("int4")), change), spec, "m")


def outer_products(model: Any, schema: Any) -> None:
    """Values that grow by broadcasting: (1, n) + (n, 1)."""
    graph = model.subgraphs[-1]
    code = next(i for i, c in enumerate(model.operatorCodes) if c.builtinCode == schema.BuiltinOperator.ADD)
    for shape in ([1 << 20, 1], [1 << 20, 1 << 20]):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.hasRank, tensor.name = shape, schema.TensorType.FLOAT32, True, "x"
        graph.tensors.append(tensor)
    model.buffers.append(schema.BufferT())
    big = len(graph.tensors) - 2
    graph.tensors[big].buffer = len(model.buffers) - 1
    first = next(b for b in model.buffers if b.offset and b.offset > 1)
    model.buffers[-1].offset, model.buffers[-1].size = first.offset, 4 << 20
    added = schema.OperatorT()
    added.opcodeIndex, added.inputs, added.outputs = code, [big, big], [big + 1]
    added.builtinOptions, added.builtinOptionsType = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions
    graph.operators.append(added)


def test_values_larger_than_a_decoder_needs_are_refused(file: Bytes) -> None:
    padded = np.concatenate([file, np.zeros(5 << 20, np.uint8)])
    with pytest.raises(BundleError, match=r"is declared"):  # (n, 1) + (n, 1) stays (n, 1)
        check_tflite(edited(padded, outer_products), SPEC, "m")

    def transposed(model: Any, schema: Any) -> None:
        outer_products(model, schema)
        graph = model.subgraphs[-1]
        row = schema.TensorT()
        row.shape, row.type, row.hasRank, row.name = [1, 1 << 20], schema.TensorType.FLOAT32, True, "y"
        row.buffer = graph.tensors[-2].buffer
        graph.tensors.append(row)
        graph.operators[-1].inputs = [len(graph.tensors) - 3, len(graph.tensors) - 1]

    with pytest.raises(BundleError, match=r"holds \d+ bytes of values at one time"):
        check_tflite(edited(padded, transposed), SPEC, "m")


@pytest.mark.parametrize("start", [-(2**31), -1, 0, 3, 4, 7, 2**31 - 1])
def test_the_update_kernel_moves_rows_to_where_they_fit(tmp_path: Path, start: int) -> None:
    """The one place that graphs compute at run time."""
    from ai_edge_litert.interpreter import Interpreter

    model = Model()
    graph: Graph = model.graph("decode")
    x, rows = graph.input("x", "float32", (1, 1, 6, 2)), graph.input("rows", "float32", (1, 1, 2, 2))
    place = graph.input("place", "int32", (4,))
    graph.output("y", graph.op("DYNAMIC_UPDATE_SLICE", (x, rows, place), (1, 1, 6, 2)))
    run = Interpreter(model_content=model.serialize({}, {})).get_signature_runner("decode")
    old, new = np.zeros((1, 1, 6, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    found = run(x=old, rows=new, place=np.array([0, 0, start, 0], np.int32))["y"]
    expected = np.zeros(6)
    expected[np.clip(start, 0, 4) : np.clip(start, 0, 4) + 2] = 1
    assert np.array_equal(found[0, 0, :, 0], expected)
