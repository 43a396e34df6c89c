"""Choosing the next token from a row of logits, without allocating and with the GIL released.

The distribution and the order of its parts are those of Hugging Face transformers: logit bias, repetition penalty, suppressed
tokens; then logits / temperature, top-k (ties of the k-th logit stay), top-p on what is left, renormalised (a token stays
while the tokens more likely than it hold less than top_p), and min-p. Presence and frequency penalties come after the
repetition penalty, as in vLLM.
"""

from libc.float cimport FLT_MAX, FLT_MIN
from libc.math cimport INFINITY, isinf, log
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from edgeslm.errors import ArgumentError, EngineError

include "_rows.pxi"


cdef enum:
    NOT_A_NUMBER = -2
    INFINITE = -3


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


cdef inline float changed(float logit, double value) noexcept nogil:
    """``value`` instead of a logit, kept finite; an infinite logit stays what it is."""
    if isinf(logit):
        return logit
    return <float>(FLT_MAX if value > FLT_MAX else -FLT_MAX if value < -FLT_MAX else value)


cdef int64_t draw(const Candidate *kept, int64_t count, uint64_t *state) noexcept nogil:
    """One of the candidates, each with the probability of its weight."""
    cdef int64_t i
    cdef double total = 0
    for i in range(count):
        total += kept[i].weight
    cdef double left = uniform(state) * total
    for i in range(count - 1):
        left -= kept[i].weight
        if left < 0:
            return kept[i].token
    return kept[count - 1].token


cdef class Sampler:
    """Draws token ids. One per completion: it holds the tokens so far and the state of the random generator.

    Args:
        vocab_size: length of a row of logits.
        prompt: ids that the repetition penalty covers beside the drawn ones.
        seed: of the generator, 0 .. 2**64 - 1.
        others: as in GenerationArguments, checked as GenerationOptions does.
    """

    cdef int64_t vocab_size, top_k
    cdef double top_p, repetition, presence, frequency
    cdef bint greedy
    cdef float sharpness, min_p
    cdef uint64_t state
    cdef float *scores  # (vocab_size,) changed logits, or weights
    cdef float *maxima  # of the blocks of a row
    cdef float *heap  # (vocab_size,) scratch
    cdef Candidate *candidates  # (vocab_size + 1,) room for one that is not taken
    cdef Candidate *kept  # the part of them to draw from
    cdef Candidate *biases  # (bias_count,)
    cdef int32_t *suppressed  # (suppressed_count,)
    cdef int32_t *seen  # (seen_count,) of (vocab_size,) distinct ids of prompt and completion
    cdef int32_t *drawn  # (vocab_size,) how often the completion holds an id; -1: neither prompt nor completion does
    cdef int64_t bias_count, suppressed_count, seen_count

    def __cinit__(
        self,
        int64_t vocab_size,
        double temperature=0,
        int64_t top_k=0,
        double top_p=1,
        double min_p=0,
        double repetition_penalty=1,
        double presence_penalty=0,
        double frequency_penalty=0,
        dict logit_bias=None,
        suppress_tokens=(),
        prompt=(),
        uint64_t seed=0,
    ):
        if not (vocab_size > 0 and temperature >= 0 and top_k >= 0 and 0 <= top_p <= 1 and 0 <= min_p <= 1):
            raise ArgumentError(
                f"Sampler: vocab_size {vocab_size}, temperature {temperature}, top_k {top_k}, top_p {top_p} "
                f"or min_p {min_p} out of range"
            )
        self.vocab_size, self.top_p, self.min_p, self.state = vocab_size, top_p, <float>min_p, seed
        self.top_k = top_k if top_k < vocab_size else 0
        self.repetition, self.presence, self.frequency = repetition_penalty, presence_penalty, frequency_penalty
        self.greedy = temperature == 0
        # Between the limits of float, so that 0 · sharpness is 0 and -inf · sharpness -inf.
        self.sharpness = <float>max(min(1 / temperature if temperature > 0 else FLT_MAX, FLT_MAX), FLT_MIN)
        self._allocate(logit_bias or {}, suppress_tokens)
        for token in prompt:
            self._see(self._checked(token))

    def __dealloc__(self):
        free(self.scores)
        free(self.maxima)
        free(self.heap)
        free(self.candidates)
        free(self.biases)
        free(self.suppressed)
        free(self.seen)
        free(self.drawn)

    def sample(self, const float[::1] logits not None):
        """The next token's id, from its logits (vocab_size,) float32, contiguous.

        Raises:
            ArgumentError: another number of logits.
            EngineError: a logit is NaN or +inf, or all are -inf.
        """
        cdef int64_t token, count = self._checked_keep(logits)
        with nogil:
            token = draw(self.kept, count, &self.state)
            self._see(token)
            self.drawn[token] += 1
        return token

    def probabilities(self, const float[::1] logits not None):
        """What :meth:`sample` would draw from: probabilities by id, of the tokens that are left; errors as there."""
        cdef int64_t i, count = self._checked_keep(logits)
        cdef double total = 0
        for i in range(count):
            total += self.kept[i].weight
        return {self.kept[i].token: self.kept[i].weight / total for i in range(count)}

    def logprobs(self, const float[::1] logits not None, int64_t token, int64_t top):
        """Of the logits as they are: log probability of ``token``, and the ``top`` likeliest ids with theirs, in falling order."""
        cdef const float *row = self._row(logits)
        cdef int64_t i, count = 0
        cdef float peak
        cdef double normaliser
        self._checked(token)
        top = min(top, self.vocab_size)
        with nogil:
            find_maxima(row, self.vocab_size, self.maxima)
            peak = row[first_largest(row, self.vocab_size, self.maxima)]
            if top > 0:
                count = take_likeliest(row, self.vocab_size, self.maxima, top, self.heap, self.candidates)
                take_mass(self.candidates, count, INFINITY)
            normaliser = peak + log(weigh(row, self.vocab_size, peak, 1, self.scores))
        likeliest = [
            (self.candidates[i].token, self.candidates[i].weight - normaliser)
            for i in range(count - 1, count - 1 - top, -1)
        ]
        return row[token] - normaliser, likeliest

    cdef int _allocate(self, dict logit_bias, suppress_tokens) except -1:
        cdef int64_t i, n = self.vocab_size
        self.scores, self.heap = <float *>calloc(n, sizeof(float)), <float *>calloc(n, sizeof(float))
        self.maxima = <float *>calloc(block_count(n), sizeof(float))
        self.candidates = <Candidate *>calloc(n + 1, sizeof(Candidate))
        self.biases = <Candidate *>calloc(len(logit_bias) + 1, sizeof(Candidate))
        self.suppressed = <int32_t *>calloc(len(suppress_tokens) + 1, sizeof(int32_t))
        self.seen, self.drawn = <int32_t *>calloc(n, sizeof(int32_t)), <int32_t *>calloc(n, sizeof(int32_t))
        if not (self.scores and self.heap and self.maxima and self.candidates and self.biases and self.suppressed
                and self.seen and self.drawn):
            raise MemoryError
        for i in range(n):
            self.drawn[i] = -1
        for token, bias in logit_bias.items():
            self.biases[self.bias_count].token = self._checked(token)
            self.biases[self.bias_count].weight = changed(0, bias)
            self.bias_count += 1
        for token in suppress_tokens:
            self.suppressed[self.suppressed_count] = self._checked(token)
            self.suppressed_count += 1
        return 0

    cdef int32_t _checked(self, int64_t token) except -1:
        if not 0 <= token < self.vocab_size:
            raise ArgumentError(f"token id {token} is outside the vocabulary, 0..{self.vocab_size - 1}")
        return <int32_t>token

    cdef const float *_row(self, const float[::1] logits) except NULL:
        if logits.shape[0] != self.vocab_size:
            raise ArgumentError(f"expected {self.vocab_size} logits, found {logits.shape[0]}")
        return &logits[0]

    cdef void _see(self, int64_t token) noexcept nogil:
        if self.drawn[token] < 0:
            self.drawn[token] = 0
            self.seen[self.seen_count] = <int32_t>token
            self.seen_count += 1

    cdef const float *_changed(self, const float *logits) noexcept nogil:
        """The logits after bias, penalties and suppression."""
        cdef bint penalised = self.repetition != 1 or self.presence != 0 or self.frequency != 0
        if not (self.bias_count or self.suppressed_count or penalised):
            return logits
        cdef float *scores = self.scores
        cdef int64_t i
        cdef int32_t token
        memcpy(scores, logits, self.vocab_size * sizeof(float))
        for i in range(self.bias_count):
            token = self.biases[i].token
            scores[token] = changed(scores[token], <double>scores[token] + self.biases[i].weight)
        if penalised:
            for i in range(self.seen_count):
                token = self.seen[i]
                scores[token] = self._penalised(scores[token], self.drawn[token])
        for i in range(self.suppressed_count):
            scores[self.suppressed[i]] = -INFINITY
        return scores

    cdef float _penalised(self, float score, int32_t times) noexcept nogil:
        cdef double value = score * self.repetition if score < 0 else score / self.repetition
        if times > 0:
            value -= self.frequency * times + self.presence
        return changed(score, value)

    cdef int64_t _checked_keep(self, const float[::1] logits) except -1:
        cdef const float *row = self._row(logits)
        cdef int64_t count
        with nogil:
            count = self._keep(self._changed(row))
        if count < 0:
            what = "NaN" if count == NOT_A_NUMBER else "infinite values"
            raise EngineError(
                f"the model's logits hold {what}: the computation broke down; check the bundle with edgeslm verify"
            )
        return count

    cdef int64_t _keep(self, const float *scores) noexcept nogil:
        """Let ``kept`` be the tokens to draw from, with their weights; return how many, or an error code."""
        cdef int64_t n = self.vocab_size, count, best
        self.kept = self.candidates
        if find_maxima(scores, n, self.maxima):
            return NOT_A_NUMBER
        best = first_largest(scores, n, self.maxima)
        if isinf(scores[best]):
            return INFINITE
        if self.greedy:
            self.kept[0].token, self.kept[0].weight = <int32_t>best, 1
            return 1
        cdef double total = 0
        count = self._take(scores, scores[best], &total)
        if self.top_p < 1:
            best = take_mass(self.kept, count, self.top_p * total)
            self.kept, count = self.kept + (count - best), best
        return count

    cdef int64_t _take(self, const float *scores, float peak, double *total) noexcept nogil:
        """Collect what top-k and min-p leave, as weights; ``total`` is the weight that top-p is a part of."""
        cdef int64_t n = self.vocab_size, count
        cdef float least = max(self.min_p, FLT_MIN)  # no weight but 0 is below
        if self.top_k:
            count = take_likeliest(scores, n, self.maxima, self.top_k, self.heap, self.kept)
        elif self.min_p > 0 and self.top_p == 1:
            count = take_from(scores, n, self.maxima, <float>(peak + (log(self.min_p) - 0.001) / self.sharpness), self.kept)
        else:
            total[0] = weigh(scores, n, peak, self.sharpness, self.scores)
            # Tokens of less than the n-th part of what top-p leaves out are left out: together they are not enough.
            least = max(least, <float>(0.999 * (1 - self.top_p) * total[0] / n))
            find_maxima(self.scores, n, self.maxima)
            return take_from(self.scores, n, self.maxima, least, self.kept)
        total[0] = weigh_candidates(self.kept, count, peak, self.sharpness)
        return drop_below(self.kept, count, least)
