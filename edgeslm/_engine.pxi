# Models and sessions. Included by _native.pyx behind _kernels.pxi.
#
# Here Python's numbers become C's; whether they make a sound program is for slm_program_check to say.

from threading import get_ident, main_thread

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, malloc

from edgeslm.errors import CancelledError, ContextLengthError, ModelFormatError, RewindError

cdef extern from "pool.h" nogil:
    enum: SLM_MAX_THREADS

cdef extern from "system.h" nogil:
    void slm_map_pages(const void *, size_t)

cdef extern from "watch.h" nogil:
    ctypedef struct slm_watch:
        int (*poll)(void *) noexcept
        void *context
        int64_t next_ns
        int stopped

cdef extern from "engine.h" nogil:
    enum slm_status:
        SLM_OK, SLM_NO_MEMORY, SLM_NO_THREADS, SLM_BAD_VALUE, SLM_BAD_WEIGHT, SLM_BAD_LAYER, SLM_BAD_OP, SLM_BAD_ID,
        SLM_BAD_SESSION, SLM_FULL, SLM_FORGOTTEN, SLM_CANCELLED, SLM_CLOSED, SLM_FORKED
    enum: SLM_EMBED, SLM_NORM, SLM_LINEAR, SLM_KV_STORE, SLM_ATTEND, SLM_ACT_MUL, SLM_SELECT
    enum: SLM_SEGMENTS, SLM_NONE
    ctypedef struct slm_op:
        int32_t kind
        int32_t inputs "in"[3]
        int32_t out[3]
        int32_t weight[3]
        int32_t bias[3]
        int32_t segments, groups, act, layer, accumulate
        float scale, eps, softcap
    ctypedef struct slm_weight:
        slm_matrix matrix
        size_t data_bytes, scales_bytes
    ctypedef struct slm_vector:
        const float *data
        int64_t n
    ctypedef struct slm_rope:
        const float *inv_freq
        int64_t half
        float scale, q_beta
        int64_t q_period
    ctypedef struct slm_layer:
        int64_t n_heads, n_kv_heads, head_dim, rope, window
        float scale, softcap
    ctypedef struct slm_value:
        int64_t width
    ctypedef struct slm_program:
        int64_t vocab, context, n_values, n_weights, n_vectors, n_ropes, n_layers, n_ops
        int32_t kv_format
        slm_value *values
        slm_weight *weights
        slm_vector *vectors
        slm_rope *ropes
        slm_layer *layers
        slm_op *ops
    ctypedef struct slm_model
    ctypedef struct slm_session
    slm_status slm_program_alloc(slm_program *)
    void slm_program_free(slm_program *)
    slm_status slm_program_check(slm_program *, int64_t *where)
    slm_status slm_model_open(slm_program *, const slm_kernels *, int threads, slm_model **)
    ctypedef struct slm_memory:
        size_t scratch, kv
    slm_status slm_model_memory(slm_model *, int64_t tokens, slm_memory *)
    void slm_model_close(slm_model *)
    void slm_model_free(slm_model *)
    slm_status slm_session_open(slm_model *, slm_session **)
    void slm_session_close(slm_session *)
    void slm_session_free(slm_session *)
    slm_status slm_session_fork(slm_session *, slm_session **)
    ctypedef struct slm_segment:
        slm_session *session
        int64_t start
        const int32_t *ids
        int64_t n
        int all_rows
    slm_status slm_sessions_run(const slm_segment *, int64_t count, float *logits, slm_watch *)
    void slm_session_cancel(slm_session *, int on)
    slm_status slm_session_truncate(slm_session *, int64_t length)
    ctypedef struct slm_session_info:
        int64_t length, high, rewindable_to
    slm_status slm_session_state(slm_session *, slm_session_info *)
    slm_status slm_session_rows(slm_session *, int64_t layer, int64_t length, int64_t high, int64_t *rows)
    ctypedef struct slm_kv_arrays:
        void *keys
        void *values
        float *key_scales
        float *value_scales
    slm_status slm_session_read(slm_session *, int64_t layer, const slm_kv_arrays *)
    slm_status slm_session_restore(slm_session *, int64_t length, int64_t high)
    slm_status slm_session_write(slm_session *, int64_t layer, const slm_kv_arrays *)

cdef dict _KINDS = {
    "embed": SLM_EMBED, "norm": SLM_NORM, "linear": SLM_LINEAR, "kv_store": SLM_KV_STORE, "attend": SLM_ATTEND,
    "act_mul": SLM_ACT_MUL, "select": SLM_SELECT,
}
cdef dict _KV_DTYPES = {"f32": "float32", "f16": "float16", "q8": "int8"}
cdef dict _PROBLEMS = {
    SLM_NO_MEMORY: (EngineError, "not enough memory for the model's buffers or the session's cache"),
    SLM_NO_THREADS: (EngineError, "the operating system refused to start a thread: ask for fewer threads"),
    SLM_BAD_VALUE: (ModelFormatError, "the vocabulary, the context length or a layer's width is out of range"),
    SLM_BAD_WEIGHT: (ModelFormatError, "a weight is misshapen, or its file too short for it"),
    SLM_BAD_LAYER: (ModelFormatError, "the heads, rope or window of a layer are out of range"),
    SLM_BAD_OP: (ModelFormatError, "an operation does not fit the widths of its weights"),
    SLM_BAD_ID: (ArgumentError, "a token id is outside the vocabulary"),
    SLM_BAD_SESSION: (ArgumentError, "sessions that run together must be different ones of one model"),
    SLM_FULL: (ContextLengthError, "the tokens do not fit the context"),
    SLM_FORGOTTEN: (RewindError, "a sliding window no longer holds the tokens needed: truncate to 0 and run the prompt again"),
    SLM_CANCELLED: (CancelledError, "cancelled"),
    SLM_CLOSED: (EngineError, "this session, or the model it belongs to, has been closed: open a new one"),
    SLM_FORKED: (EngineError, "the model was opened before this process was forked: open it again in the child"),
}


cdef int _raise(slm_status status, str where="") except -1:
    if status == SLM_OK:
        return 0
    kind, message = _PROBLEMS[status]
    raise kind(f"{where}: {message}" if where else message)


cdef int _fill_op(slm_op *to, object op) except -1:
    _check(op.kind in _KINDS, f"operation {op.kind!r} is unknown")
    for name in ("inputs", "outputs", "weights", "biases"):
        _check(len(getattr(op, name)) <= SLM_SEGMENTS, f"{op.kind}: more than {SLM_SEGMENTS} {name}")
    to.kind = _KINDS[op.kind]
    for i in range(SLM_SEGMENTS):
        to.inputs[i] = op.inputs[i] if i < len(op.inputs) else SLM_NONE
        to.out[i] = op.outputs[i] if i < len(op.outputs) else SLM_NONE
        to.weight[i] = op.weights[i] if i < len(op.weights) else SLM_NONE
        to.bias[i] = op.biases[i] if i < len(op.biases) else SLM_NONE
    to.segments, to.groups, to.act, to.layer, to.accumulate = len(op.weights), op.groups, op.act, op.layer, op.accumulate
    to.scale, to.eps, to.softcap = op.scale, op.eps, op.softcap
    return 0


cdef int _fill_weight(slm_weight *to, tuple weight) except -1:
    cdef str format = weight[0]
    cdef const uint8_t[::1] data = weight[4]
    cdef const uint16_t[::1] scales = weight[5]
    to.matrix.format, to.matrix.n, to.matrix.k, to.matrix.group = _FORMATS[format], weight[1], weight[2], weight[3]
    _check(data.shape[0] > 0 and (scales is None or scales.shape[0] > 0), "a weight without bytes")
    to.matrix.data, to.data_bytes, to.matrix.scale = &data[0], data.shape[0], weight[6]
    if scales is not None:
        to.matrix.scales, to.scales_bytes = &scales[0], scales.shape[0] * sizeof(uint16_t)
    return 0


cdef int _fill_vector(slm_vector *to, const float[::1] vector) except -1:
    _check(vector.shape[0] > 0, "a vector without values")
    to.data, to.n = &vector[0], vector.shape[0]
    return 0


cdef int _fill_rope(slm_rope *to, tuple rope) except -1:
    cdef const float[::1] inv_freq = rope[0]
    _check(inv_freq.shape[0] > 0, "a rope without frequencies")
    to.inv_freq, to.half = &inv_freq[0], inv_freq.shape[0]
    to.scale, to.q_beta, to.q_period = rope[1], rope[2], rope[3]
    return 0


cdef int _fill_layer(slm_layer *to, object a) except -1:
    to.n_heads, to.n_kv_heads, to.head_dim, to.rope, to.window = a.n_heads, a.n_kv_heads, a.head_dim, a.rope, a.window
    to.scale, to.softcap = a.scale, a.softcap
    return 0


cdef int _fill(slm_program *p, object program, list weights, list vectors, list ropes) except -1:
    for i, width in enumerate(program.values):
        p.values[i].width = width
    for i, weight in enumerate(weights):
        _fill_weight(&p.weights[i], weight)
    for i, vector in enumerate(vectors):
        _fill_vector(&p.vectors[i], vector)
    for i, rope in enumerate(ropes):
        _fill_rope(&p.ropes[i], rope)
    for i, layer in enumerate(program.layers):
        _fill_layer(&p.layers[i], layer)
    for i, op in enumerate(program.ops):
        _fill_op(&p.ops[i], op)
    return 0


cdef str _culprit(slm_status status, int64_t where, object program):
    if status == SLM_BAD_WEIGHT:
        names = program.matrices + program.vectors
        return f"tensor {where}: {names[where] if where < len(names) else '?'}"
    return {SLM_BAD_OP: f"operation {where}", SLM_BAD_LAYER: f"layer {where}"}.get(status, "model")


def map_pages(list areas not None):
    """Have the pages of mapped files read and mapped, so that the first use need not wait for each; other threads go on."""
    cdef const uint8_t[::1] area
    for area in areas:
        if area.shape[0]:
            with nogil:
                slm_map_pages(&area[0], area.shape[0])


cdef class Model:
    """A program over mapped weights, with its threads. Sessions keep it alive; closing it ends them."""

    cdef slm_model *_model
    cdef object _kept  # arrays whose memory the program points to
    cdef readonly int64_t vocab
    cdef readonly list layers  # (n_kv_heads, head_dim) of each
    cdef readonly str kv_format

    def __init__(self, program not None, int64_t vocab, int64_t context, list weights not None, list vectors not None,
                 list ropes not None, int threads, str kv_format not None):
        """See edgeslm.engines.native, which alone calls this.

        weights: (format, n, k, group, data uint8[:], bits of half-precision scales uint16[:] or None, scale of all) per matrix
        of the program; vectors: float32 arrays; ropes: (inv_freq float32[:], scale, q_beta, q_period); kv_format: f32, f16 or
        q8, of keys and values.
        """
        cdef slm_program p
        cdef slm_status status
        cdef int64_t where = 0
        _check(self._model == NULL, "a model is opened once")
        _check(1 <= threads <= SLM_MAX_THREADS, f"threads: expected 1..{SLM_MAX_THREADS}, found {threads}")
        isa()  # raises where EDGESLM_ISA cannot be honoured
        p.n_values, p.n_weights, p.n_vectors = len(program.values), len(weights), len(vectors)
        p.n_ropes, p.n_layers, p.n_ops = len(ropes), len(program.layers), len(program.ops)
        p.vocab, p.context, p.kv_format = vocab, context, _kv_format(kv_format)
        _raise(slm_program_alloc(&p))
        try:
            _fill(&p, program, weights, vectors, ropes)
            status = slm_program_check(&p, &where)
            _raise(status, _culprit(status, where, program))
            _raise(slm_model_open(&p, slm_kernels_get(), threads, &self._model))
        finally:
            slm_program_free(&p)
        self._kept, self.vocab, self.kv_format = (weights, vectors, ropes), vocab, kv_format
        self.layers = [(a.n_kv_heads, a.head_dim) for a in program.layers]

    def __dealloc__(self):
        slm_model_free(self._model)

    def memory(self, int64_t tokens):
        """Bytes of rows and scratch, and of a session of ``tokens`` tokens; once no run is under way."""
        cdef slm_memory found
        cdef slm_status status
        _check(tokens >= 0, "a negative number of tokens")
        with nogil:
            status = slm_model_memory(self._model, tokens, &found)
        _raise(status)
        return found.scratch, found.kv

    def close(self):
        """Free threads and buffers, once no run is under way."""
        with nogil:
            slm_model_close(self._model)
        self._kept = None


cdef int _check_signals(void *raised) noexcept with gil:
    """Let Python handle signals, which it does in the main thread only; what a handler raises ends the run."""
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>raised).append(error)
        return 1
    return 0


cdef slm_watch _watch(list raised):
    """Looks after signals where this is the thread that handles them; what a handler raises gets into ``raised``."""
    cdef slm_watch watch = slm_watch(NULL, <void *>raised, 0, 0)
    if get_ident() == main_thread().ident:
        watch.poll = _check_signals
    return watch


cdef class Session:
    """One sequence and its cache."""

    cdef slm_session *_session
    cdef readonly Model model

    def __init__(self, Model model not None):
        _check(self._session == NULL and model._model != NULL, "a session is opened once, on an open model")
        _raise(slm_session_open(model._model, &self._session))
        self.model = model

    def __dealloc__(self):
        slm_session_free(self._session)

    def fork(self):
        """A session that goes on from here by itself."""
        cdef Session fork = Session.__new__(Session)
        cdef slm_status status
        with nogil:
            status = slm_session_fork(self._session, &fork._session)
        _raise(status)
        fork.model = self.model
        return fork

    cdef slm_session_info _state(self) except *:
        cdef slm_session_info info
        cdef slm_status status
        with nogil:
            status = slm_session_state(self._session, &info)
        _raise(status)
        return info

    @property
    def length(self):
        """Tokens held."""
        return self._state().length

    @property
    def high(self):
        """Positions below it were written since the session was last empty."""
        return self._state().high

    @property
    def rewindable_to(self):
        """The smallest length above 0 that can be gone on from."""
        return self._state().rewindable_to

    def cancel(self, bint on):
        """While on, runs raise CancelledError as soon as they can, one under way in another thread too."""
        slm_session_cancel(self._session, on)

    def truncate(self, int64_t length):
        """Forget all but the first ``length`` tokens; the caller has checked that there are as many."""
        cdef slm_status status
        with nogil:
            status = slm_session_truncate(self._session, length)
        _raise(status)

    def shape(self, int64_t layer, int64_t length, int64_t high):
        """(n_kv_heads, rows, head_dim) that a layer keeps of ``length`` tokens where ``high`` were written, the last rows."""
        cdef int64_t rows = 0
        cdef slm_status status
        with nogil:
            status = slm_session_rows(self._session, layer, length, high, &rows)
        _raise(status)
        n_kv_heads, head_dim = self.model.layers[layer]
        return n_kv_heads, rows, head_dim

    def read(self, int64_t layer, list arrays not None):
        """Copy these rows into arrays: keys and values of this shape, and of q8 their scales, as :meth:`write` takes them."""
        cdef slm_kv_arrays to = self._arrays(layer, arrays)
        cdef slm_status status
        with nogil:
            status = slm_session_read(self._session, layer, &to)
        _raise(status)

    def restore(self, int64_t length, int64_t high):
        """Make an empty session one of ``length`` tokens that has written ``high``, whose rows are to be written next."""
        cdef slm_status status
        with nogil:
            status = slm_session_restore(self._session, length, high)
        _raise(status)

    def write(self, int64_t layer, list arrays not None):
        """Copy arrays into the rows of a layer.

        keys, values: the shape above, of float32, float16 or int8 as the model's kv_format says; with q8 also the scales of
        keys and of values: float32 (n_kv_heads, rows).
        """
        cdef slm_kv_arrays source = self._arrays(layer, arrays)
        cdef slm_status status
        with nogil:
            status = slm_session_write(self._session, layer, &source)
        _raise(status)

    cdef slm_kv_arrays _arrays(self, int64_t layer, list arrays) except *:
        cdef slm_kv_arrays out
        cdef slm_session_info info = self._state()
        shape = self.shape(layer, info.length, info.high)
        expected = [(_KV_DTYPES[self.model.kv_format], shape)] * 2
        if self.model.kv_format == "q8":
            expected += [("float32", shape[:2])] * 2
        found = [(a.dtype.name, a.shape) for a in arrays]
        _check(found == expected and all(a.flags.c_contiguous for a in arrays), f"layer {layer}: arrays must be {expected}")
        out.keys, out.values = <void *><uintptr_t>arrays[0].ctypes.data, <void *><uintptr_t>arrays[1].ctypes.data
        out.key_scales = out.value_scales = NULL
        if self.model.kv_format == "q8":
            out.key_scales = <float *><uintptr_t>arrays[2].ctypes.data
            out.value_scales = <float *><uintptr_t>arrays[3].ctypes.data
        return out

    def close(self):
        """Free the cache, once no run is under way."""
        with nogil:
            slm_session_close(self._session)


def run(list sessions not None, list starts not None, list counts not None, const int32_t[::1] ids not None, bint all_rows,
        float[:, ::1] logits not None):
    """Append the next counts[i] of ids behind the first starts[i] tokens of sessions[i], different ones of one model.

    Writes logits of all ids, or of the last of each session. In the main thread, signals are handled meanwhile, and what
    their handlers raise comes out of here.
    """
    cdef int64_t count = len(sessions), i, n = 0, rows, vocab
    cdef slm_segment *segments
    cdef slm_segment *to
    _check(count > 0 and len(starts) == count and len(counts) == count, "expected a start and a count for each session")
    segments = <slm_segment *>malloc(count * sizeof(slm_segment))
    if segments == NULL:
        raise MemoryError
    try:
        for i in range(count):
            to = &segments[i]
            to.session, to.start, to.n, to.all_rows = (<Session?>sessions[i])._session, starts[i], counts[i], all_rows
            if not 1 <= to.n <= ids.shape[0] - n:
                raise ArgumentError(f"session {i} gets {to.n} of the {ids.shape[0] - n} ids left")
            to.ids = &ids[n]
            n += to.n
        rows, vocab = n if all_rows else count, (<Session>sessions[0]).model.vocab
        if n < ids.shape[0] or logits.shape[0] != rows or logits.shape[1] != vocab:
            raise ArgumentError(f"logits must be ({rows}, {vocab}), and {n} ids")
        _run(segments, count, &logits[0, 0])
    finally:
        free(segments)


cdef int _run(const slm_segment *segments, int64_t count, float *logits) except -1:
    cdef list raised = []
    cdef slm_watch watch = _watch(raised)
    cdef slm_status status
    with nogil:
        status = slm_sessions_run(segments, count, logits, &watch)
    if raised:
        raise raised[0]
    return _raise(status)
