/* Attention over rows of f32 or f16; the including file defines FORMAT and AT(data, i), a value as float. */
#include "attend_ref.h"

static void score(const slm_attend *a, const float *q, slm_seen seen, float *scores) {
    for (int32_t j = seen.first; j < seen.stop; j++) {
        scores[j] = 0;
        for (int64_t i = 0; i < a->d; i++) scores[j] += q[i] * AT(a->rows.keys, slm_key_index(FORMAT, a->d, j, i));
    }
}

static void gather(const slm_attend *a, float *weights, slm_seen seen, float *out) {
    for (int64_t i = 0; i < a->d; i++) {
        out[i] = 0;
        for (int32_t j = seen.first; j < seen.stop; j++) out[i] += weights[j] * AT(a->rows.values, slm_value_index(FORMAT, j, i));
    }
}
