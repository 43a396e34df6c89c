# The kernels one by one, for tests and benchmarks, and the quantisers. Included by _native.pyx.
#
# Everything is checked here: the C side trusts sizes, strides and alignment. `isa` None means the active instruction set.

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t, uintptr_t

import os

from edgeslm.errors import ArgumentError, EngineError
from edgeslm.lazy_numpy import np

cdef extern from "kernels.h" nogil:
    enum: SLM_F32, SLM_F16, SLM_Q8, SLM_Q4
    ctypedef struct slm_matrix:
        int32_t format, group
        int64_t n, k
        const void *data
        const uint16_t *scales
        float scale
    ctypedef void slm_pack_fn(const float *, int64_t, int32_t, void *)
    ctypedef void slm_linear_fn(const slm_matrix *, int64_t, int64_t, const void *, size_t, int64_t, float *, int64_t,
                                const float *, int, void *)
    ctypedef void slm_embed_fn(const slm_matrix *, int64_t, float, float *)
    enum: SLM_SILU, SLM_GELU, SLM_GELU_TANH
    ctypedef void slm_norm_fn(const float *, const float *, float, int64_t, float *, int)
    ctypedef void slm_act_mul_fn(float *, const float *, int64_t, int)
    ctypedef void slm_rope_fn(float *, const float *, const float *, int64_t)
    ctypedef float slm_exp_sum_fn(const float *, int64_t, float)
    enum: SLM_KV_BLOCK
    ctypedef struct slm_kv_view:
        void *keys
        void *values
        float *key_scales
        float *value_scales
    ctypedef struct slm_seen:
        int32_t first, stop
    ctypedef struct slm_softmax:
        float *max
        float *sum
        float *acc
    ctypedef struct slm_attend:
        const float *q
        int64_t n_q, d
        const slm_seen *seen
        slm_kv_view rows
        float softcap
        slm_softmax out
        void *scratch
        bint resumed
        slm_kv_view next
    ctypedef void slm_kv_store_fn(const float *, const float *, int64_t, const slm_kv_view *, int64_t)
    ctypedef void slm_attend_fn(const slm_attend *)
    ctypedef void slm_merge_fn(slm_softmax, slm_softmax, int64_t, int64_t)
    ctypedef void slm_quantize_fn(const float *, int64_t, int64_t, int32_t, uint8_t *, float *)
    ctypedef void slm_read_fn(const uint64_t *, int64_t, uint64_t *)
    ctypedef struct slm_kernels:
        slm_pack_fn *pack[4]
        slm_linear_fn *linear[4]
        slm_embed_fn *embed[4]
        slm_norm_fn *norm
        slm_act_mul_fn *act_mul
        slm_rope_fn *rope
        slm_exp_sum_fn *exp_sum
        slm_kv_store_fn *kv_store[4]
        slm_merge_fn *merge
        slm_attend_fn *attend[4]
        slm_read_fn *read
        slm_quantize_fn *quantize[4]
    size_t slm_act_row_bytes(int32_t format, int64_t k, int32_t group)
    size_t slm_linear_scratch(const slm_matrix *w)
    int64_t slm_kv_width(int64_t d)
    size_t slm_attend_scratch(int64_t n_q, int64_t d)

cdef extern from "kv_rows.h" nogil:
    size_t slm_kv_head_bytes(int32_t format, int64_t d)
    slm_kv_view slm_kv_view_in(int32_t format, int64_t d, void *memory)

cdef extern from "dispatch.h" nogil:
    enum slm_isa_status: SLM_ISA_USABLE, SLM_ISA_UNKNOWN, SLM_ISA_NOT_BUILT, SLM_ISA_NO_CPU
    ctypedef struct slm_kernel_row:
        const char *op
        const char *format
        int isa
    const slm_kernel_row *slm_kernel_rows(int *count)
    const char *slm_isa_name(int isa)
    slm_isa_status slm_isa_find(const char *name, int *isa)
    slm_isa_status slm_isa_active(int *isa)
    void slm_kernels_fill(int isa, slm_kernels *table)
    const slm_kernels *slm_kernels_get()

cdef dict _FORMATS = {"f32": SLM_F32, "f16": SLM_F16, "q8": SLM_Q8, "q4": SLM_Q4}
cdef dict _GROUP_SIZES = {"f32": [0], "f16": [0], "q8": [32, 64, 128], "q4": [32, 64, 128]}


cdef list _isa_names():
    cdef int i = 0
    names = []
    while slm_isa_name(i) != NULL:
        names.append(slm_isa_name(i).decode())
        i += 1
    return names


cdef object _isa_problem(str name, slm_isa_status status):
    """The exception that says why the instruction set cannot be used, and what to do."""
    if status == SLM_ISA_UNKNOWN:
        return EngineError(f"instruction set {name!r} is unknown: set EDGESLM_ISA to one of {', '.join(_isa_names())}, or unset it")
    if status == SLM_ISA_NOT_BUILT:
        return EngineError(f"this build of edgeslm has no {name} kernels (another architecture): unset EDGESLM_ISA")
    return EngineError(f"this CPU, or the operating system on it, lacks {name}: unset EDGESLM_ISA or set it to a lower set")


cdef int _usable_isa(str name) except -1:
    cdef int level = 0
    cdef slm_isa_status status = slm_isa_find(name.encode(), &level)
    if status != SLM_ISA_USABLE:
        raise _isa_problem(name, status)
    return level


cdef int _format(str name, object group) except -1:
    if name not in _FORMATS:
        raise ArgumentError(f"format is {name!r}, expected one of {', '.join(_FORMATS)}")
    if group not in _GROUP_SIZES[name]:
        raise ArgumentError(f"group size of {name} is {group}, expected one of {_GROUP_SIZES[name]}")
    return _FORMATS[name]


cdef int _check(bint ok, str message) except -1:
    if not ok:
        raise ArgumentError(message)
    return 0


def kernel_rows():
    """Every kernel of this build as (op, format, isa, whether this CPU can run it); format "any" for ops without one."""
    cdef int count = 0, level
    cdef const slm_kernel_row *rows = slm_kernel_rows(&count)
    return [
        (rows[i].op.decode(), rows[i].format.decode(), name := slm_isa_name(rows[i].isa).decode(),
         slm_isa_find(name.encode(), &level) == SLM_ISA_USABLE)
        for i in range(count)
    ]


def isa():
    """Name of the instruction set that the engine runs with. Raises EngineError if EDGESLM_ISA names one that cannot run."""
    return slm_isa_name(_active_isa()).decode()


cdef int _active_isa() except -1:
    cdef int level = 0
    cdef slm_isa_status status = slm_isa_active(&level)
    if status != SLM_ISA_USABLE:
        raise _isa_problem(os.environ.get("EDGESLM_ISA", ""), status)
    return level


cdef slm_kernels _table(str isa_name) except *:
    cdef slm_kernels table
    slm_kernels_fill(_active_isa() if isa_name is None else _usable_isa(isa_name), &table)
    return table


cdef object _aligned(size_t n):
    """n bytes that begin at a multiple of 64."""
    raw = np.empty(n + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n]


cdef slm_matrix _matrix(str format, int64_t n, int64_t k, int32_t group, const uint8_t[::1] data,
                        const uint16_t[::1] scales, float scale) except *:
    cdef slm_matrix w
    w.format, w.group, w.n, w.k = _format(format, group), group, n, k
    _check(n > 0 and k > 0, f"matrix is ({n}, {k}), expected positive sizes")
    groups = -(-k // group) if group else 0
    row_bytes = {"f32": 4 * k, "f16": 2 * k, "q8": groups * group, "q4": groups * group // 2}[format]
    _check(data.shape[0] == n * row_bytes, f"data has {data.shape[0]} bytes, expected {n * row_bytes}")
    _check(<uintptr_t>&data[0] % 16 == 0, "data is not aligned to 16 bytes")
    w.data, w.scales, w.scale = &data[0], NULL, scale
    if group:
        _check(scales is not None and scales.shape[0] == n * groups, f"expected {n * groups} scales")
        _check(<uintptr_t>&scales[0] % 16 == 0, "scales are not aligned to 16 bytes")
        w.scales = &scales[0]
    return w


def pack(str format, str isa, const float[:, ::1] x not None, int group=0):
    """Rows x (m, k) float32 as the linear kernels of the format read them: uint8 (m, row bytes), aligned to 64 bytes."""
    cdef slm_kernels table = _table(isa)
    cdef int f = _format(format, group)
    cdef int64_t m = x.shape[0], k = x.shape[1], i
    _check(m > 0 and k > 0, f"rows are ({m}, {k}), expected positive sizes")
    if table.pack[f] == NULL:
        return np.asarray(x).view(np.uint8)
    cdef size_t row_bytes = slm_act_row_bytes(f, k, group)
    out = _aligned(m * row_bytes)
    out[:] = 0xA5  # tests see what a kernel leaves alone
    cdef uint8_t[::1] view = out
    for i in range(m):
        table.pack[f](&x[i, 0], k, group, &view[i * row_bytes])
    return out.reshape(m, -1)


def linear(str format, str isa, const uint8_t[::1] data not None, const uint16_t[::1] scales, float scale, int64_t n, int64_t k,
           int group, const uint8_t[:, ::1] x not None, float[:, ::1] y not None, int64_t n0, int64_t n1,
           const float[::1] bias=None, bint accumulate=False):
    """y[:, n0:n1] (+)= x w^T + bias, in place. x: rows from pack(); w (n, k): data, halves of scales (by their bits) and what
    these are times, as the format stores them; of float formats no halves, and 1."""
    cdef slm_kernels table = _table(isa)
    cdef slm_matrix w = _matrix(format, n, k, group, data, scales, scale)
    cdef int64_t m = x.shape[0], y_stride = y.shape[1]
    cdef size_t x_stride = x.shape[1]
    expected = slm_act_row_bytes(w.format, k, group)
    _check(m > 0 and x_stride == expected, f"x is ({m}, {x_stride}) bytes, expected rows of {expected}")
    _check(<uintptr_t>&x[0, 0] % (64 if group else 4) == 0, "x is not aligned: take it from pack()")
    _check(y.shape[0] == m and y_stride >= n, f"y is ({y.shape[0]}, {y_stride}), expected ({m}, {n} or more)")
    _check(0 <= n0 < n1 <= n, f"outputs {n0}..{n1} are not within 0..{n}")
    _check(bias is None or bias.shape[0] == n, f"bias must have {n} values")
    cdef uint8_t[::1] scratch = _aligned(slm_linear_scratch(&w) + 1)
    cdef const float *b = NULL if bias is None else &bias[0]
    with nogil:
        table.linear[w.format](&w, n0, n1, &x[0, 0], x_stride, m, &y[0, 0], y_stride, b, accumulate, &scratch[0])


def embed(str format, str isa, const uint8_t[::1] data not None, const uint16_t[::1] scales, float scale, int64_t n, int64_t k,
          int group, int64_t row, float factor, float[::1] out not None):
    """Row `row` of the matrix w (n, k), which is given as for linear(), times factor, into out[:k]."""
    cdef slm_kernels table = _table(isa)
    cdef slm_matrix w = _matrix(format, n, k, group, data, scales, scale)
    _check(0 <= row < n, f"row {row} is not within 0..{n}")
    _check(out.shape[0] >= k, f"out has {out.shape[0]} values, expected {k}")
    table.embed[w.format](&w, row, factor, &out[0])


def quantize(str format, str isa, const float[:, ::1] rows not None, int group):
    """Rows (n, k) float32, finite → (data, float32 scales) of the format, exactly as edgeslm.formats encodes them.

    Releases the GIL.
    """
    cdef slm_kernels table = _table(isa)
    cdef int f = _format(format, group)
    _check(table.quantize[f] != NULL, f"format {format!r} is not quantised")
    cdef int64_t n = rows.shape[0], k = rows.shape[1]
    _check(n > 0 and k > 0, f"rows are ({n}, {k}), expected positive sizes")
    groups = -(-k // group)
    data = np.empty((n, groups, group if f == SLM_Q8 else group // 2), np.uint8)
    scales = np.empty((n, groups), np.float32)
    cdef uint8_t[:, :, ::1] data_view = data
    cdef float[:, ::1] scales_view = scales
    with nogil:
        table.quantize[f](&rows[0, 0], n, k, group, &data_view[0, 0, 0], &scales_view[0, 0])
    return data, scales
