"""The original's own answer: what the fp32 oracle computes from the checkpoint on a built-in text.

Stored in the bundle as ``reference.npz``; every target is held against it, never against dequantised weights.

    ids         (n,) int32      the tokens, teacher-forced
    top_ids     (n, t) int32    the t = min(64, vocab) most likely next tokens of each row, best first
    top_logits  (n, t) float32  their logits
    logsumexp   (n,) float32    over the whole vocabulary
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import BundleError
from edgeslm.spec import DecoderSpec
from edgeslm.weights import F32Array, WeightSource

NAME = "reference.npz"
TOKENS, TOP = 256, 64
MAX_TOKENS = 1024 + 64  # for windows of up to 1,024 tokens: the answer must reach beyond them
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class ReferenceAnswer:
    """Ids and what the original makes of them."""

    ids: npt.NDArray[np.int32]
    top_ids: npt.NDArray[np.int32]
    top_logits: F32Array
    logsumexp: F32Array

    def first(self, rows: int) -> ReferenceAnswer:
        """The answer to the first ``rows`` tokens alone."""
        return ReferenceAnswer(self.ids[:rows], self.top_ids[:rows], self.top_logits[:rows], self.logsumexp[:rows])

    def dumps(self) -> bytes:
        """As the bytes of an .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        return buffer.getvalue()


def built_in_text() -> str:
    """The text that verification runs on."""
    return resources.files("edgeslm.converters").joinpath("reference_text.txt").read_text("utf-8")


def reference_ids(spec: DecoderSpec, encode: Callable[[str], list[int]] | None) -> npt.NDArray[np.int32]:
    """Token ids within the context, 256 or as many as go beyond every window: of the built-in text, or random ones.

    Random ones where there is no tokenizer, or it knows nothing of the text.
    """
    beyond = max(block.mixer.window for block in spec.blocks) + 64
    count = min(max(TOKENS, beyond if beyond <= MAX_TOKENS else 0), spec.context_length)
    ids: list[int] = []
    text, before = built_in_text(), -1
    while encode and before < len(ids) < count:  # again with twice the text for a tokenizer with very long tokens
        before = len(ids)
        ids = encode(text)
        text += text
    if len(ids) < count:
        return np.random.default_rng(0).integers(0, spec.vocab_size, count).astype(np.int32)
    return np.asarray(ids[:count], np.int32)


def compute_answer(
    spec: DecoderSpec,
    weights: WeightSource,
    ids: npt.NDArray[np.int32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReferenceAnswer:
    """Run the oracle over ``ids``, layer by layer and in row blocks."""
    layers = len(spec.layers)
    done = iter(range(1, layers + 1))
    engine = ReferenceEngine(spec, weights, tap=lambda name, value: progress(next(done), layers))
    return summarize(ids, engine.new_session().forward(ids, rows="all"))


def summarize(ids: npt.NDArray[np.int32], logits: F32Array) -> ReferenceAnswer:
    """The best 64 logits of each row, and its logsumexp."""
    count = min(TOP, logits.shape[1])
    top_ids = np.empty((len(logits), count), np.int32)
    logsumexp = np.empty(len(logits), np.float32)
    for i, row in enumerate(logits):  # row by row: a copy of all logits may be hundreds of megabytes
        best = np.argpartition(row, -count)[-count:]
        top_ids[i] = best[np.argsort(-row[best], kind="stable")]
        logsumexp[i] = log_sum_exp(row)
    return ReferenceAnswer(ids, top_ids, np.take_along_axis(logits, top_ids, axis=1), logsumexp)


def log_sum_exp(row: F32Array) -> float:
    """log Σ exp(row), computed in float64."""
    peak = float(row.max())
    return peak + float(np.log(np.exp(row.astype(np.float64) - peak).sum()))


def parse_answer(raw: bytes, spec: DecoderSpec) -> ReferenceAnswer:
    """Read ``reference.npz`` of a bundle, trusting nothing.

    Raises:
        BundleError: not an .npz file, too large, or arrays of other types or shapes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            if sum(item.file_size for item in archive.infolist()) > _MAX_BYTES:
                raise BundleError(f"{NAME}: larger than {_MAX_BYTES} bytes")
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            ids, top_ids = arrays["ids"], arrays["top_ids"]
            top_logits, logsumexp = arrays["top_logits"], arrays["logsumexp"]
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged input
        raise BundleError(f"{NAME}: cannot be read ({error}); verify with --against CHECKPOINT") from None
    n, top = len(ids) if ids.ndim == 1 else 0, min(TOP, spec.vocab_size)
    sound = (
        0 < n <= spec.context_length
        and top_ids.shape == top_logits.shape == (n, top)
        and logsumexp.shape == (n,)
        and ids.dtype == top_ids.dtype == np.int32
        and top_logits.dtype == logsumexp.dtype == np.float32
        and bool(((ids >= 0) & (ids < spec.vocab_size)).all())
        and bool(((top_ids >= 0) & (top_ids < spec.vocab_size)).all())
        and bool(np.isfinite(top_logits).all() and np.isfinite(logsumexp).all())
    )
    if not sound:
        raise BundleError(f"{NAME}: its arrays do not fit the model; verify with --against CHECKPOINT")
    return ReferenceAnswer(ids, top_ids, top_logits, logsumexp)
