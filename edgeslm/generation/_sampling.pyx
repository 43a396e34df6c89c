"""Choosing the next token from a row of logits, without allocating and with the GIL released.

The distribution is the one of Hugging Face transformers: logits / temperature, then top-k (ties of the k-th logit stay),
then top-p on what is left, renormalised (a token stays while the tokens more likely than it hold less than top_p).
"""

from libc.math cimport INFINITY, exp
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from edgeslm.errors import ArgumentError, EngineError


cdef enum:
    NOT_A_NUMBER = -1
    INFINITE = -2


cdef struct Candidate:
    double weight  # proportional to the token's probability; 1 for the most likely
    int32_t token


cdef inline double uniform(uint64_t *state) noexcept nogil:
    """The next value of SplitMix64 as a double in [0, 1).

    Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    z = z ^ (z >> 31)
    return <double>(z >> 11) * (1.0 / 9007199254740992.0)


cdef int64_t argmax(const float *logits, int64_t n) noexcept nogil:
    """The lowest id of the largest logit, or an error code where softmax is not defined."""
    cdef int64_t i, best = 0
    cdef bint not_a_number = False
    for i in range(n):
        not_a_number |= logits[i] != logits[i]
        if logits[i] > logits[best]:
            best = i
    if not_a_number:
        return NOT_A_NUMBER
    return INFINITE if logits[best] == INFINITY or logits[best] == -INFINITY else best


cdef float kth_largest(const float *logits, int64_t n, float *heap, int64_t k) noexcept nogil:
    """The k-th largest logit, 1 <= k <= n, by a heap of the k largest with the smallest of them on top."""
    cdef int64_t i
    for i in range(k):
        heap[i] = logits[i]
    for i in range(k // 2 - 1, -1, -1):
        sink_smallest(heap, i, k)
    for i in range(k, n):
        if logits[i] > heap[0]:
            heap[0] = logits[i]
            sink_smallest(heap, 0, k)
    return heap[0]


cdef inline void sink_smallest(float *heap, int64_t i, int64_t n) noexcept nogil:
    cdef int64_t child
    cdef float value = heap[i]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if value <= heap[child]:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = value


cdef inline bint before(Candidate a, Candidate b) noexcept nogil:
    return a.weight > b.weight or (a.weight == b.weight and a.token < b.token)


cdef inline void sink_likeliest(Candidate *heap, int64_t i, int64_t n) noexcept nogil:
    cdef int64_t child
    cdef Candidate value = heap[i]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and before(heap[child + 1], heap[child]):
            child += 1
        if not before(heap[child], value):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = value


cdef int64_t nucleus(Candidate *candidates, int64_t n, double mass) noexcept nogil:
    """Move the likeliest candidates that together reach ``mass`` to the end of the array; return how many (at least one)."""
    cdef int64_t i, kept = 0
    cdef double sum = 0
    cdef Candidate top
    for i in range(n // 2 - 1, -1, -1):
        sink_likeliest(candidates, i, n)
    while kept < n and (kept == 0 or sum < mass):
        top = candidates[0]
        sum += top.weight
        kept += 1
        candidates[0] = candidates[n - kept]
        candidates[n - kept] = top
        sink_likeliest(candidates, 0, n - kept)
    return kept


cdef class Sampler:
    """Draws token ids. One per completion: it holds the state of the random generator.

    Args:
        vocab_size: length of a row of logits.
        temperature: 0 takes the most likely token (of equals the lowest id); above 0 samples.
        top_k: sample among the k most likely tokens; 0: all.
        top_p: sample among the most likely tokens that together hold this probability; 1: all.
        seed: of the generator, 0 .. 2**64 - 1.
    """

    cdef int64_t vocab_size, top_k
    cdef double temperature, top_p
    cdef uint64_t state
    cdef Candidate *candidates
    cdef float *heap

    def __cinit__(self, int64_t vocab_size, double temperature=0, int64_t top_k=0, double top_p=1, uint64_t seed=0):
        if not (vocab_size > 0 and temperature >= 0 and top_k >= 0 and 0 <= top_p <= 1):
            raise ArgumentError(
                f"Sampler: vocab_size {vocab_size}, temperature {temperature}, top_k {top_k}, top_p {top_p} out of range"
            )
        self.vocab_size, self.temperature, self.top_p, self.state = vocab_size, temperature, top_p, seed
        self.top_k = top_k if top_k < vocab_size else 0
        if temperature > 0:
            self.candidates = <Candidate *>malloc(vocab_size * sizeof(Candidate))
            self.heap = <float *>malloc(max(self.top_k, 1) * sizeof(float))
            if not self.candidates or not self.heap:
                raise MemoryError

    def __dealloc__(self):
        free(self.candidates)
        free(self.heap)

    def sample(self, const float[::1] logits not None):
        """The next token's id, from its logits (vocab_size,) float32, contiguous.

        Raises:
            ArgumentError: another number of logits.
            EngineError: a logit is NaN or +inf, or all are -inf.
        """
        if logits.shape[0] != self.vocab_size:
            raise ArgumentError(f"expected {self.vocab_size} logits, found {logits.shape[0]}")
        cdef int64_t token
        with nogil:
            token = self._choose(&logits[0])
        if token < 0:
            what = "NaN" if token == NOT_A_NUMBER else "infinite values"
            raise EngineError(
                f"the model's logits hold {what}: the computation broke down; check the bundle with edgeslm verify"
            )
        return token

    cdef int64_t _choose(self, const float *logits) noexcept nogil:
        cdef int64_t best = argmax(logits, self.vocab_size)
        if best < 0 or self.temperature == 0:
            return best
        cdef float peak = logits[best], least = -INFINITY
        if self.top_k:
            least = kth_largest(logits, self.vocab_size, self.heap, self.top_k)
        cdef int64_t i, count = 0
        cdef double total = 0
        for i in range(self.vocab_size):
            if logits[i] >= least:
                self.candidates[count].token = <int32_t>i
                self.candidates[count].weight = exp((<double>logits[i] - peak) / self.temperature)
                total += self.candidates[count].weight
                count += 1
        cdef Candidate *kept = self.candidates
        if self.top_p < 1:
            i = nucleus(self.candidates, count, self.top_p * total)
            kept, count = self.candidates + (count - i), i
        return self._draw(kept, count)

    cdef int64_t _draw(self, const Candidate *kept, int64_t count) noexcept nogil:
        """One of the candidates, each with the probability of its weight."""
        cdef int64_t i
        cdef double total = 0
        for i in range(count):
            total += kept[i].weight
        cdef double left = uniform(&self.state) * total
        for i in range(count - 1):
            left -= kept[i].weight
            if left < 0:
                return kept[i].token
        return kept[count - 1].token
