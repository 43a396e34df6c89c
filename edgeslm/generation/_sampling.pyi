import numpy as np
import numpy.typing as npt

class Sampler:
    def __init__(
        self, vocab_size: int, temperature: float = 0, top_k: int = 0, top_p: float = 1, seed: int = 0
    ) -> None: ...
    def sample(self, logits: npt.NDArray[np.float32]) -> int: ...
