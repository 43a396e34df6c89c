# Norm, activation, rotation, sums, attention and reading, one by one, for tests. Included by _native.pyx behind _kernels.pxi.

cdef dict _ACTS = {"silu": SLM_SILU, "gelu": SLM_GELU, "gelu_tanh": SLM_GELU_TANH}


def norm(str isa, const float[::1] x not None, const float[::1] weight not None, float eps, float[::1] out not None,
         bint accumulate=False):
    """out[:n] (+)= x / sqrt(mean(x²) + eps) · weight, for n = len(x)."""
    cdef slm_kernels table = _table(isa)
    cdef int64_t n = x.shape[0]
    _check(n > 0 and weight.shape[0] == n and out.shape[0] >= n, f"norm of {n} values needs as many weights and outputs")
    table.norm(&x[0], &weight[0], eps, n, &out[0], accumulate)


def act_mul(str isa, float[::1] gate not None, const float[::1] up not None, int64_t n, str act):
    """gate[:n] = act(gate) · up, in place."""
    cdef slm_kernels table = _table(isa)
    _check(0 < n <= gate.shape[0] and n <= up.shape[0], f"act_mul of {n} values, found {gate.shape[0]} and {up.shape[0]}")
    _check(act in _ACTS, f"act is {act!r}, expected one of {', '.join(_ACTS)}")
    table.act_mul(&gate[0], &up[0], n, _ACTS[act])


def rope(str isa, float[::1] x not None, const float[::1] cosine not None, const float[::1] sine not None):
    """Rotate the pairs (x[i], x[i + half]) in place, for half = len(cosine)."""
    cdef slm_kernels table = _table(isa)
    cdef int64_t half = cosine.shape[0]
    _check(half > 0 and sine.shape[0] == half and x.shape[0] >= 2 * half, f"rope of {half} pairs needs {2 * half} values")
    table.rope(&x[0], &cosine[0], &sine[0], half)


def exp_sum(str isa, const float[::1] x not None, float top):
    """The sum of exp(x - top)."""
    cdef slm_kernels table = _table(isa)
    _check(x.shape[0] > 0, "expected values")
    return table.exp_sum(&x[0], x.shape[0], top)


cdef int _kv_format(str name) except -1:
    _check(name in ("f32", "f16", "q8"), f"format is {name!r}, expected one of f32, f16, q8")
    return _FORMATS[name]


def kv_store(str format, str isa, const float[:, ::1] keys not None, const float[:, ::1] values not None, int64_t first):
    """A block of a cache whose rows first, first + 1, … are keys and values (count, d): uint8, as kv_rows.h lays it out."""
    cdef slm_kernels table = _table(isa)
    cdef int f = _kv_format(format)
    cdef int64_t count = keys.shape[0], d = keys.shape[1], i
    _check(count > 0 and d > 0 and values.shape[0] == count and values.shape[1] == d, f"cache rows must be ({count}, {d})")
    _check(0 <= first and first + count <= SLM_KV_BLOCK, f"rows {first}..{first + count} are not within 0..{SLM_KV_BLOCK}")
    block = _aligned(slm_kv_head_bytes(f, d))
    block[:] = 0xFF  # what was never written is NaN: tests see whether it is used
    cdef uint8_t[::1] view = block
    cdef slm_kv_view rows = slm_kv_view_in(f, d, &view[0])
    for i in range(count):
        table.kv_store[f](&keys[i, 0], &values[i, 0], d, &rows, first + i)
    return block


def attend(str format, str isa, const float[:, ::1] q not None, int64_t d, uint8_t[::1] block not None,
           const int32_t[:, ::1] seen not None, float softcap, float[::1] max not None, float[::1] sum not None,
           float[:, ::1] acc not None, int64_t times=1):
    """Attention of heads q over a block of rows of width d from kv_store(), each over its rows seen (n_q, 2), into max, sum, acc.

    Computed ``times`` times, to be timed.
    q and acc: (n_q, width), width being d rounded up to a multiple of 16; what lies behind d is 0 in q.
    """
    cdef slm_kernels table = _table(isa)
    cdef int f = _kv_format(format)
    cdef int64_t n_q = q.shape[0], width = slm_kv_width(d)
    cdef size_t size = slm_kv_head_bytes(f, d)
    _check(n_q > 0 and d > 0, "attend needs heads and a width")
    _check(q.shape[1] == width and acc.shape[1] == width, f"heads must be {width} wide")
    _check(<size_t>block.shape[0] == size and <uintptr_t>&block[0] % 64 == 0, "block: take it from kv_store()")
    _check(seen.shape[0] == n_q and seen.shape[1] == 2, f"seen must be ({n_q}, 2)")
    limits = np.asarray(seen)
    sound = (limits[:, 0] >= 0) & (limits[:, 0] <= limits[:, 1]) & (limits[:, 1] <= SLM_KV_BLOCK)
    _check(bool(sound.all()), f"seen: expected 0 <= first <= stop <= {SLM_KV_BLOCK}")
    _check(max.shape[0] >= n_q and sum.shape[0] >= n_q and acc.shape[0] >= n_q, "results are too small")
    cdef uint8_t[::1] scratch = _aligned(slm_attend_scratch(n_q, d))
    cdef slm_attend call
    call.q, call.n_q, call.d, call.softcap = &q[0, 0], n_q, d, softcap
    call.seen = <const slm_seen *>&seen[0, 0]
    call.rows = slm_kv_view_in(f, d, &block[0])
    call.out, call.scratch = slm_softmax(&max[0], &sum[0], &acc[0, 0]), &scratch[0]
    call.resumed = False
    call.next = slm_kv_view(NULL, NULL, NULL, NULL)
    with nogil:
        while times > 0:
            table.attend[f](&call)
            call.resumed = True
            times -= 1


def merge(str isa, float[::1] max not None, float[::1] sum not None, float[:, ::1] acc not None, float[::1] part_max not None,
          float[::1] part_sum not None, float[:, ::1] part_acc not None, int64_t times=1):
    """Add the second softmax of n_q heads over rows to the first, ``times`` times: max (n_q), sum (n_q), acc (n_q, width).

    width: a multiple of 16.
    """
    cdef slm_kernels table = _table(isa)
    cdef int64_t n_q = acc.shape[0], width = acc.shape[1]
    _check(n_q > 0 and width > 0 and width % 16 == 0, "merge needs heads, a multiple of 16 wide")
    _check(part_acc.shape[0] == n_q and part_acc.shape[1] == width, f"the second softmax must be ({n_q}, {width}) as well")
    _check(max.shape[0] == sum.shape[0] == part_max.shape[0] == part_sum.shape[0] == n_q, f"max and sum must be ({n_q})")
    cdef slm_softmax total = slm_softmax(&max[0], &sum[0], &acc[0, 0])
    cdef slm_softmax part = slm_softmax(&part_max[0], &part_sum[0], &part_acc[0, 0])
    with nogil:
        while times > 0:
            table.merge(total, part, n_q, width)
            times -= 1


def read(str isa, const uint64_t[::1] words not None):
    """Their sum, modulo 2**64."""
    cdef slm_kernels table = _table(isa)
    cdef uint64_t sum = 0
    _check(words.shape[0] > 0, "no words to read")
    table.read(&words[0], words.shape[0], &sum)
    return sum
