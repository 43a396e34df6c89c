# Norm, activation, rotation, attention and reading, one by one, for tests. Included by _native.pyx behind _kernels.pxi.

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


def attend(str isa, const float[:, ::1] q not None, const float[:, ::1] keys not None, const float[:, ::1] values not None,
           float softcap, float[::1] max not None, float[::1] sum not None, float[:, ::1] acc not None):
    """One online-softmax step of heads q (n_q, d) over rows keys, values (count, d); the state max, sum, acc is updated."""
    cdef slm_kernels table = _table(isa)
    cdef int64_t n_q = q.shape[0], d = q.shape[1], count = keys.shape[0]
    _check(n_q > 0 and d > 0 and count > 0, "attend needs heads, a width and cache rows")
    _check(keys.shape[1] == d and values.shape[0] == count and values.shape[1] == d, f"cache rows must be ({count}, {d})")
    _check(max.shape[0] >= n_q and sum.shape[0] >= n_q and acc.shape[0] >= n_q and acc.shape[1] == d, "state is too small")
    table.attend(&q[0, 0], n_q, d, &keys[0, 0], &values[0, 0], d, count, softcap, &max[0], &sum[0], &acc[0, 0])


def read(str isa, const uint64_t[::1] words not None):
    """Their sum, modulo 2**64."""
    cdef slm_kernels table = _table(isa)
    cdef uint64_t sum = 0
    _check(words.shape[0] > 0, "no words to read")
    table.read(&words[0], words.shape[0], &sum)
    return sum
