"""An engine with scripted logits, and small tokenizers of the kinds that models come with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from edgeslm.engines.checks import check_ids
from edgeslm.engines.protocol import Logits, Rows, TokenIds
from edgeslm.errors import CancelledError, EngineError
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp
from edgeslm.tokenizer import Tokenizer

BOS, EOS = 0, 1


def spec(vocab_size: int, context_length: int) -> DecoderSpec:
    block = Block(Attention(n_heads=1, n_kv_heads=1, head_dim=2, scale=1.0), Mlp(inner=2))
    return DecoderSpec(vocab_size, 2, 1e-5, context_length, (block,), (0,), ())


@dataclass
class ScriptedSession:
    engine: ScriptedEngine
    length: int = 0
    closed: bool = False
    cancelled: bool = False

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        """Logits whose peak is the script's next token; with rows="all", row i peaks at ids[i]."""
        checked = check_ids(ids, self.engine.spec, self.length)
        if self.closed or self.engine.closed:
            raise EngineError("closed")
        if self.uncancel():
            raise CancelledError
        if self.engine.failure:
            raise self.engine.failure
        self.length += len(checked)
        self.engine.forwarded.append([int(i) for i in checked])
        wanted = checked if rows == "all" else [self.engine.script.pop(0)]
        logits = np.zeros((len(wanted), self.engine.spec.vocab_size), np.float32)
        logits[np.arange(len(wanted)), wanted] = 10.0
        return logits

    def truncate(self, length: int) -> None:
        self.length = length

    def cancel(self) -> None:
        self.cancelled = True

    def uncancel(self) -> bool:
        was, self.cancelled = self.cancelled, False
        return was

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedEngine:
    spec: DecoderSpec
    script: list[int]
    name: str = "scripted"
    kv_type: str = "f32"
    isa: str = ""
    threads: int = 1
    closed: bool = False
    failure: type[BaseException] | None = None  # that the next pass ends with
    sessions: list[ScriptedSession] = field(default_factory=list)
    forwarded: list[list[int]] = field(default_factory=list)

    def new_session(self) -> ScriptedSession:
        self.sessions.append(ScriptedSession(self))
        return self.sessions[-1]

    def close(self) -> None:
        self.closed = True


MakeEngine = Callable[..., ScriptedEngine]


@pytest.fixture
def make_engine() -> MakeEngine:
    def make(script: Sequence[int] = (), vocab_size: int = 400, context_length: int = 64) -> ScriptedEngine:
        return ScriptedEngine(spec(vocab_size, context_length), list(script))

    return make


def byte_level() -> Backend:
    """Like GPT-2, Llama 3 and Qwen: every token is bytes; no begin-of-text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *alphabet, "Ġa", "Ġth", "he", "ing", "ðŁ", "âĤ", "Ã¤"]
    backend = Backend(models.BPE({t: i for i, t in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    backend.add_tokens([AddedToken("<müde>", normalized=False), AddedToken("<漢 字>", normalized=False)])
    return backend


def _pieces() -> dict[str, int]:
    tokens = ["<s>", "</s>", "<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "▁the", "▁a", "b", "ing", "ä", "▁▁"]
    return {t: i for i, t in enumerate(tokens)}


def byte_fallback() -> Backend:
    """Like Llama 2: ▁ for spaces, bytes as <0xE2>, one leading space stripped, begin-of-text added."""
    backend = Backend(models.BPE(_pieces(), [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<s>", "</s>", "<unk>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return backend


def metaspace() -> Backend:
    """Like XLM-R and T5: ▁ for spaces, no bytes."""
    backend = Backend(models.BPE(_pieces(), [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<s>", "</s>", "<unk>"])
    return backend


BACKENDS = {f.__name__: f for f in (byte_level, byte_fallback, metaspace)}


@pytest.fixture(params=BACKENDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each kind in turn."""
    return Tokenizer(BACKENDS[request.param]().to_str().encode(), b'{"eos_token": "</s>"}')


@pytest.fixture
def make_tokenizer() -> Callable[[str], Tokenizer]:
    """One kind by name."""
    return lambda kind: Tokenizer(BACKENDS[kind]().to_str().encode(), b'{"eos_token": "</s>"}')
