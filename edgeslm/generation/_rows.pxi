# Passes over a row of logits or weights. The inner loops run over a fixed number of lanes, so that compilers vectorise them.


cdef enum:
    LANES = 16
    BLOCK = 64  # logits to a block; what cannot matter is skipped by the block


cdef struct Candidate:
    float weight  # proportional to the token's probability, 1 for the most likely; at first the logit
    int32_t token


cdef inline int64_t block_count(int64_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK


cdef bint find_maxima(const float *x, int64_t n, float *maxima) noexcept nogil:
    """The largest value of each block; True if there is a NaN (which is never the largest)."""
    cdef int64_t block, i, j
    cdef float lanes[LANES]
    cdef int32_t bad[LANES]
    cdef float value
    for j in range(LANES):
        bad[j] = 0
    for block in range(block_count(n)):
        for j in range(LANES):
            lanes[j] = -INFINITY
        if (block + 1) * BLOCK <= n:
            for i in range(BLOCK // LANES):
                for j in range(LANES):
                    value = x[block * BLOCK + i * LANES + j]
                    lanes[j] = value if value > lanes[j] else lanes[j]
                    bad[j] |= value != value
        else:
            for i in range(block * BLOCK, n):
                lanes[0] = x[i] if x[i] > lanes[0] else lanes[0]
                bad[0] |= x[i] != x[i]
        for j in range(1, LANES):
            lanes[0] = lanes[j] if lanes[j] > lanes[0] else lanes[0]
        maxima[block] = lanes[0]
    for j in range(1, LANES):
        bad[0] |= bad[j]
    return bad[0] != 0


cdef int64_t first_largest(const float *x, int64_t n, const float *maxima) noexcept nogil:
    """The lowest index of the largest value."""
    cdef int64_t block, best = 0, i
    for block in range(1, block_count(n)):
        if maxima[block] > maxima[best]:
            best = block
    for i in range(best * BLOCK, min((best + 1) * BLOCK, n)):
        if x[i] == maxima[best]:
            return i
    return best * BLOCK  # all are NaN


cdef float kth_largest(const float *x, int64_t n, float *heap, int64_t k) noexcept nogil:
    """The k-th largest value, 1 <= k <= n, by a heap of the k largest with the smallest of them on top."""
    cdef int64_t i
    for i in range(k):
        heap[i] = x[i]
    for i in range(k // 2 - 1, -1, -1):
        sink_smallest(heap, i, k)
    for i in range(k, n):
        if x[i] > heap[0]:
            heap[0] = x[i]
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


cdef int64_t take_from(
    const float *x, int64_t n, const float *maxima, float least, Candidate *found
) noexcept nogil:
    """Collect the values from ``least`` up, in the order of their indices; return how many."""
    cdef int64_t block, i, count = 0
    for block in range(block_count(n)):
        if maxima[block] >= least:
            for i in range(block * BLOCK, min((block + 1) * BLOCK, n)):
                found[count].weight, found[count].token = x[i], <int32_t>i
                count += x[i] >= least
    return count


cdef int64_t drop_below(Candidate *found, int64_t count, float least) noexcept nogil:
    """Keep the candidates from ``least`` up, in their order; return how many."""
    cdef int64_t i, kept = 0
    for i in range(count):
        found[kept] = found[i]
        kept += found[i].weight >= least
    return kept


cdef int64_t take_likeliest(
    const float *x, int64_t n, const float *maxima, int64_t k, float *heap, Candidate *found
) noexcept nogil:
    """Collect the k largest values, 1 <= k <= n, and those equal to the k-th; return how many.

    The k-th largest of the blocks' maxima is at most the k-th largest value: few blocks and values pass it.
    """
    cdef int64_t i, count
    cdef float least = -INFINITY
    if k <= block_count(n):
        least = kth_largest(maxima, block_count(n), heap, k)
    count = take_from(x, n, maxima, least, found)
    for i in range(k):
        heap[i] = found[i].weight
    for i in range(k // 2 - 1, -1, -1):
        sink_smallest(heap, i, k)
    for i in range(k, count):
        if found[i].weight > heap[0]:
            heap[0] = found[i].weight
            sink_smallest(heap, 0, k)
    return drop_below(found, count, heap[0])


cdef inline float exponent(float x, float peak, float sharpness) noexcept nogil:
    """Of a logit's weight."""
    cdef float exact = (x - peak) * sharpness
    return exact if exact > <float>-88 else <float>-88


cdef inline float exponential(float x) noexcept nogil:
    """e**x for x in -88 .. 0, within 2e-7 of it; 0 below -87.7. The polynomial is expf's of Cephes (Moshier, netlib.org)."""
    cdef float shifted = x * <float>1.44269504 + <float>12582912  # 1.5 * 2**23: the sum is rounded to an integer
    cdef float n = shifted - <float>12582912
    cdef float r = x - n * <float>0.693359375 + n * <float>2.12194440e-4  # ln 2 in two parts
    cdef float y = <float>1.9875691500e-4 * r + <float>1.3981999507e-3
    y = y * r + <float>8.3334519073e-3
    y = y * r + <float>4.1665795894e-2
    y = y * r + <float>1.6666665459e-1
    y = y * r + <float>5.0000001201e-1
    y = y * r * r + r + <float>1
    cdef uint32_t bits
    memcpy(&bits, &shifted, 4)
    bits = (bits + 127) << 23  # of 2**n, and of 0 for the least n, -127
    cdef float power
    memcpy(&power, &bits, 4)
    return y * power


cdef double weigh(const float *x, int64_t n, float peak, float sharpness, float *weights) noexcept nogil:
    """``weights`` = e**((x - peak) * sharpness); return their sum. Both arrays may be one."""
    cdef int64_t block, i, j, count
    cdef float values[BLOCK]
    cdef float lanes[LANES]
    cdef double total = 0
    for block in range(block_count(n)):
        count = min(<int64_t>BLOCK, n - block * BLOCK)
        for i in range(count, BLOCK):
            values[i] = -INFINITY
        memcpy(values, x + block * BLOCK, count * sizeof(float))
        for i in range(BLOCK):  # two loops, for compilers would split one of both by the bound, and not vectorise it
            values[i] = exponent(values[i], peak, sharpness)
        for i in range(BLOCK):
            values[i] = exponential(values[i])
        for j in range(LANES):
            lanes[j] = 0
        for i in range(BLOCK // LANES):
            for j in range(LANES):
                lanes[j] += values[i * LANES + j]
        for j in range(LANES):
            total += lanes[j]
        memcpy(weights + block * BLOCK, values, count * sizeof(float))
    return total


cdef double weigh_candidates(Candidate *found, int64_t count, float peak, float sharpness) noexcept nogil:
    """Turn the candidates' logits into weights; return their sum."""
    cdef int64_t i
    cdef double total = 0
    for i in range(count):
        found[i].weight = exponential(exponent(found[i].weight, peak, sharpness))
        total += found[i].weight
    return total


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


cdef int64_t take_mass(Candidate *found, int64_t n, double mass) noexcept nogil:
    """Move the likeliest candidates that together reach ``mass`` to the end, the likeliest last; return how many (at least one)."""
    cdef int64_t i, kept = 0
    cdef double sum = 0
    cdef Candidate top
    for i in range(n // 2 - 1, -1, -1):
        sink_likeliest(found, i, n)
    while kept < n and (kept == 0 or sum < mass):
        top = found[0]
        sum += top.weight
        kept += 1
        found[0] = found[n - kept]
        found[n - kept] = top
        sink_likeliest(found, 0, n - kept)
    return kept
