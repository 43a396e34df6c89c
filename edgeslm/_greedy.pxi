# Greedy decoding of several prompts at once. Included by _native.pyx behind _engine.pxi.

from array import array

cdef extern from "greedy.h" nogil:
    enum: SLM_RUNNING, SLM_ENDED, SLM_CUT
    ctypedef struct slm_line:
        slm_session *session
        int64_t keep
        const int32_t *prompt
        int64_t n_prompt
        int32_t *answer
        int64_t limit, length
        double score
        int fresh, state
    ctypedef struct slm_greedy:
        slm_line **lines
        int64_t count
        const int32_t *ends
        int64_t n_ends, vocab
        const slm_kernels *kernels
        slm_segment *segments
        float *logits
    slm_status slm_greedy_run(slm_greedy *, int64_t wanted, slm_watch *)


cdef class _Line:
    """A place for one prompt after the other, with the session that they use."""

    cdef Session session
    cdef slm_line line
    cdef int32_t[::1] prompt, answer
    cdef object key

    def __init__(self, Model model not None):
        self.session = Session(model)
        self.prompt = self.answer = array("i")

    cdef int start(self, object key, int32_t[::1] prompt, int64_t limit, bint fresh) except -1:
        """Begin with the prompt behind as much of the one before as both have in common."""
        cdef int64_t shared = 0, most = min(prompt.shape[0] - 1, self.prompt.shape[0])
        while shared < most and prompt[shared] == self.prompt[shared]:
            shared += 1
        if shared and shared < self.session.rewindable_to:
            shared = 0
        self.key, self.prompt, self.answer = key, prompt, array("i", bytes(limit * sizeof(int32_t)))
        self.line = slm_line(self.session._session, shared, &prompt[shared], prompt.shape[0] - shared, &self.answer[0], limit,
                             0, 0.0, fresh, SLM_RUNNING)
        return 0


cdef class Greedy:
    """Continues several prompts at once, each by its likeliest tokens; one thread at a time may use it."""

    cdef Model _model
    cdef const int32_t[::1] _ends
    cdef int64_t _slots
    cdef list _free, _running
    cdef slm_line **_lines
    cdef slm_segment *_segments
    cdef float *_logits

    def __init__(self, Model model not None, int64_t slots, const int32_t[::1] ends not None):
        """
        Args:
            slots: prompts that run together at most, 1..256.
            ends: tokens that end an answer.
        """
        _check(self._lines == NULL and 1 <= slots <= 256, f"slots: expected 1..256, found {slots}")
        self._model, self._slots, self._ends = model, slots, ends
        self._free, self._running = [], []
        self._lines = <slm_line **>malloc(slots * sizeof(slm_line *))
        self._segments = <slm_segment *>malloc(slots * sizeof(slm_segment))
        self._logits = <float *>malloc(slots * model.vocab * sizeof(float))
        if self._lines == NULL or self._segments == NULL or self._logits == NULL:
            raise EngineError(f"not enough memory for the logits of {slots} prompts at once: ask for a smaller batch")

    def __dealloc__(self):
        free(self._lines)
        free(self._segments)
        free(self._logits)

    def __len__(self):
        """Prompts under way."""
        return len(self._running)

    def start(self, object key, int32_t[::1] prompt not None, int64_t limit, bint fresh):
        """Take a prompt in; its answer has at most ``limit`` tokens and, if fresh, no three of them twice."""
        cdef _Line line
        _check(prompt.shape[0] > 0 and limit > 0, "expected a prompt, and room for an answer")
        _check(len(self._running) < self._slots, f"expected at most {self._slots} prompts at once")
        line = self._free.pop() if self._free else _Line(self._model)
        line.start(key, prompt, limit, fresh)
        self._running.append(line)

    def run(self, int64_t wanted):
        """Go on until ``wanted`` answers have come to an end, or all: [(key, tokens, by one of the ends?,
        log probability)].

        After an error nothing is under way.
        """
        cdef _Line line
        cdef list running = self._running
        cdef slm_greedy greedy = slm_greedy(self._lines, len(running), NULL, self._ends.shape[0], self._model.vocab,
                                            slm_kernels_get(), self._segments, self._logits)
        if self._ends.shape[0]:
            greedy.ends = &self._ends[0]
        for i in range(greedy.count):
            line = running[i]
            self._lines[i] = &line.line
        self._running = []
        _run_greedy(&greedy, wanted)
        ended = []
        for line in running:
            if line.line.state == SLM_RUNNING:
                self._running.append(line)
                continue
            tokens = [line.answer[i] for i in range(line.line.length)]
            ended.append((line.key, tokens, line.line.state == SLM_ENDED, line.line.score))
            self._free.append(line)
        return ended


cdef int _run_greedy(slm_greedy *greedy, int64_t wanted) except -1:
    cdef list raised = []
    cdef slm_watch watch = _watch(raised)
    cdef slm_status status
    with nogil:
        status = slm_greedy_run(greedy, wanted, &watch)
    if raised:
        raise raised[0]
    return _raise(status)
