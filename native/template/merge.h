/* Sums of two softmaxes. The including file defines VEC, LANES, LOAD(p), STORE(p, v), SET1(x), MUL(a, b), FMA(acc, a, b) and EXP(v), of at
 * most 0; EXP(0) is 1. */
#include <math.h>

#include "kernels.h"

static inline __attribute__((always_inline)) void merge(slm_softmax total, slm_softmax part, int64_t n_q, int64_t width) {
    float share[LANES] = {0}; /* what the softmax with the lower maximum counts for; the other counts whole */
    for (int64_t h = 0; h < n_q; h++) {
        int64_t lane = h % LANES;
        if (lane == 0) {
            for (int64_t i = 0; i < LANES && h + i < n_q; i++) share[i] = -fabsf(total.max[h + i] - part.max[h + i]);
            STORE(share, EXP(LOAD(share)));
        }
        if (part.sum[h] == 0) continue;
        int rises = part.max[h] > total.max[h];
        float old = rises ? share[lane] : 1, new = rises ? 1 : share[lane], *sum = total.acc + h * width, *add = part.acc + h * width;
        for (int64_t i = 0; i < width; i += LANES) STORE(sum + i, FMA(MUL(LOAD(sum + i), SET1(old)), LOAD(add + i), SET1(new)));
        total.sum[h] = total.sum[h] * old + part.sum[h] * new;
        if (rises) total.max[h] = part.max[h];
    }
}
