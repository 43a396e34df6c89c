from collections.abc import Collection

import numpy as np
import numpy.typing as npt

class Sampler:
    def __init__(
        self,
        vocab_size: int,
        temperature: float = 0,
        top_k: int = 0,
        top_p: float = 1,
        min_p: float = 0,
        repetition_penalty: float = 1,
        presence_penalty: float = 0,
        frequency_penalty: float = 0,
        logit_bias: dict[int, float] | None = None,
        suppress_tokens: Collection[int] = (),
        prompt: Collection[int] = (),
        seed: int = 0,
    ) -> None: ...
    def sample(self, logits: npt.NDArray[np.float32]) -> int: ...
    def probabilities(self, logits: npt.NDArray[np.float32]) -> dict[int, float]: ...
    def logprobs(
        self, logits: npt.NDArray[np.float32], token: int, top: int
    ) -> tuple[float, list[tuple[int, float]]]: ...
