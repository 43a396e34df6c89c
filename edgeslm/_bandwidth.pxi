# How fast memory is read. Included by _native.pyx behind _engine.pxi.

cdef extern from "bandwidth.h" nogil:
    ctypedef struct slm_bandwidth:
        double bytes_per_s
        uint64_t sum
    slm_status slm_read_bandwidth(const slm_kernels *, const uint64_t *, int64_t, int threads, int passes, slm_bandwidth *)


def read_bandwidth(const uint64_t[::1] words not None, int threads, int passes):
    """(bytes per second of the fastest pass over the words, sum of the words of all passes modulo 2**64)."""
    cdef slm_kernels table = _table(None)
    cdef slm_bandwidth result
    cdef slm_status status
    _check(words.shape[0] > 0 and passes > 0, "no words to read")
    _check(1 <= threads <= SLM_MAX_THREADS, f"threads: expected 1..{SLM_MAX_THREADS}, found {threads}")
    with nogil:
        status = slm_read_bandwidth(&table, &words[0], words.shape[0], threads, passes, &result)
    _raise(status)
    return result.bytes_per_s, result.sum
