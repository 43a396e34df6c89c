"""Is a ``.tflite`` file the decoder that a bundle describes, and safe to hand to LiteRT?

LiteRT trusts its files: it reads offsets, shapes and indices as they stand, and crashes on bad ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeslm.errors import BundleError
from edgeslm.spec import Attention, DecoderSpec
from edgeslm.tflite.flatbuffer import Bytes
from edgeslm.tflite.graph import GraphCheck
from edgeslm.tflite.model import Signature, Tensor, TfliteModel
from edgeslm.tflite.operators import CONCATENATION, DYNAMIC_UPDATE_SLICE

DECODE, PREFILL = "decode", "prefill_"
TOKENS, POSITIONS, MASK, LOGITS = "tokens", "input_pos", "mask", "logits"
OPERATORS_PER_LAYER, OPERATORS_BESIDES = 256, 1024
FIXED_BYTES = 64 << 20  # of values at one time, besides what follows from the decoder's shape


@dataclass(frozen=True)
class CacheLayout:
    """The cache of one layer: keys (1, heads, rows, width), values (1, heads, width, rows)."""

    heads: int
    rows: int
    width: int
    slides: bool  # rows are the last ones, the newest at the end; else a row for each position


@dataclass(frozen=True)
class Interface:
    """What a caller of the file needs to know."""

    prefill: tuple[int, ...]  # tokens per call, rising
    caches: tuple[CacheLayout, ...]  # by layer


def cache_names(layer: int) -> tuple[str, str]:
    """The keys and the values of a layer, as inputs and outputs."""
    return f"kv_cache_k_{layer}", f"kv_cache_v_{layer}"


def check_tflite(data: Bytes, spec: DecoderSpec, name: str) -> Interface:
    """Check the bytes of a file; weights are not read.

    Raises:
        BundleError: the file is damaged, hostile, or of another decoder than ``spec``.
    """
    model = TfliteModel(data, name)
    sizes, checks = _sizes(model), GraphCheck(model.file)
    layouts = [_check_signature(model, checks, spec, k, s, sizes[k]) for k, s in model.signatures.items()]
    model.file.need(layouts.count(layouts[0]) == len(layouts), "its signatures have caches of different layouts")
    return Interface(tuple(sorted(size for key, size in sizes.items() if key != DECODE)), layouts[0])


def _sizes(model: TfliteModel) -> dict[str, int]:
    """Tokens per call of each signature."""
    sizes = {}
    for key in model.signatures:
        match = re.fullmatch(rf"{PREFILL}([1-9]\d{{0,6}})", key)
        model.file.need(match is not None or key == DECODE, f"a signature {key!r}")
        sizes[key] = int(match[1]) if match else 1
    model.file.need(DECODE in sizes, "it has no signature 'decode'")
    return sizes


def _check_signature(
    model: TfliteModel, checks: GraphCheck, spec: DecoderSpec, key: str, signature: Signature, tokens: int
) -> tuple[CacheLayout, ...]:
    """The layouts of its caches."""
    need, graph = model.file.need, signature.graph
    limit = OPERATORS_BESIDES + OPERATORS_PER_LAYER * len(spec.layers)
    count = len(graph.operators.codes)
    need(count <= limit, f"{key} has {count} operators; expected at most {limit}")
    need(tokens <= spec.context_length, f"{key} takes more tokens than the context holds")
    layouts = _check_ports(model, spec, key, signature, tokens)
    below = {signature.inputs[TOKENS]: spec.vocab_size, signature.inputs[POSITIONS]: spec.context_length}
    peak = checks.check(graph, below)
    allowed = FIXED_BYTES + _expected_bytes(spec, tokens)
    need(peak <= allowed, f"{key} holds {peak} bytes of values at one time; expected at most {allowed}")
    readers = _readers(signature)
    for port in (name for layer in range(len(layouts)) for name in cache_names(layer)):
        _check_in_place(model, signature, readers, port)
    return layouts


def _check_ports(
    model: TfliteModel, spec: DecoderSpec, key: str, signature: Signature, tokens: int
) -> tuple[CacheLayout, ...]:
    """Names, types and shapes of inputs and outputs."""
    tensors, problems = signature.graph.tensors, []
    inputs = {name: tensors[i] for name, i in signature.inputs.items()}
    outputs = {name: tensors[i] for name, i in signature.outputs.items()}

    def expect(ports: dict[str, Tensor], port: str, dtype: str, *shape: int) -> None:
        found = ports.pop(port, None)
        if found is None or (found.dtype, found.shape) != (dtype, shape):
            is_ = "nothing" if found is None else f"{found.dtype} {found.shape}"
            problems.append(f"{key}: {port}: expected {dtype} {shape}, found {is_}")

    expect(inputs, TOKENS, "int32", 1, tokens)
    expect(inputs, POSITIONS, "int32", tokens)
    expect(inputs, MASK, "float32", 1, 1, tokens, spec.context_length)
    if key == DECODE:
        expect(outputs, LOGITS, "float32", 1, 1, spec.vocab_size)
    layouts, readers = [], _readers(signature)
    for layer, block in enumerate(spec.layers):
        layout = _layout(signature, readers, block.mixer, layer, spec.context_length)
        for port, shape in zip(cache_names(layer), cache_shapes(layout), strict=True):
            expect(inputs, port, "float32", *shape)
            expect(outputs, port, "float32", *shape)
        layouts.append(layout)
    problems += [f"{key}: {port}: is unknown" for port in (*inputs, *outputs)]
    if problems:
        raise BundleError(
            f"{model.file.name}: is not the graph of this bundle's decoder ({'; '.join(problems[:4])}): "
            "convert the model again"
        )
    return tuple(layouts)


def _readers(signature: Signature) -> dict[int, list[int]]:
    """Input → the operators that read it."""
    found: dict[int, list[int]] = {i: [] for i in signature.graph.inputs}
    for at, operands in enumerate(signature.graph.operators.inputs):
        for i in operands:
            if i in found:
                found[i].append(at)
    return found


def cache_shapes(layout: CacheLayout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the keys and of the values."""
    return (1, layout.heads, layout.rows, layout.width), (1, layout.heads, layout.width, layout.rows)


def _layout(signature: Signature, readers: dict[int, list[int]], a: Attention, layer: int, context: int) -> CacheLayout:
    """What the cache of a layer must look like: bounded if it slides, else a row for each position."""
    codes, (keys, _) = signature.graph.operators.codes, cache_names(layer)
    source = signature.inputs.get(keys, -1)
    read_by = {codes[at] for at in readers.get(source, ())}
    slides = bool(a.window) and CONCATENATION in read_by and DYNAMIC_UPDATE_SLICE not in read_by
    shape = signature.graph.tensors[source].shape
    rows = shape[2] if slides and len(shape) == 4 and a.window - 1 <= shape[2] <= context else context
    return CacheLayout(a.n_kv_heads, rows, a.head_dim, slides)


def _check_in_place(model: TfliteModel, signature: Signature, readers: dict[int, list[int]], port: str) -> None:
    """A cache is updated where it lies: nothing may read the old one once the new one is written."""
    written = signature.graph.operators.outputs.index(signature.outputs[port])
    late = [at for at in readers.get(signature.inputs[port], ()) if at > written]
    model.file.need(not late, f"{port} is read after it has been updated")


def _expected_bytes(spec: DecoderSpec, tokens: int) -> int:
    """A generous bound for the values of one call: a dozen of the largest per token, in float32."""
    per_token = max(
        max(b.mixer.n_heads * (spec.context_length + tokens + b.mixer.head_dim), b.mlp.inner, spec.hidden)
        for b in spec.blocks
    )
    caches = max(2 * b.mixer.n_kv_heads * b.mixer.head_dim * (spec.context_length + 2 * tokens) for b in spec.blocks)
    return 4 * (12 * (tokens * per_token + caches) + spec.vocab_size * (3 if tokens == 1 else 3 * tokens))
