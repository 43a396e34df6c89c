#include "attend_rounding.h"
#include "attend_ref.h"
#include "pack_ref.h"

typedef struct rounding {
    float inverse, scale;
} rounding;

static rounding rounding_to(float limit, float peak) {
    return (rounding){peak >= SLM_ATTEND_TINY ? limit / peak : 0, peak / limit};
}

static int32_t rounded(float x, float inverse, float limit) {
    float v = x * inverse;
    v = v > -limit ? v : -limit; /* NaN: the scale carries it */
    return (int32_t)lrintf(v < limit ? v : limit);
}

static void score(const slm_attend *a, const float *q, slm_seen seen, float *scores) {
    const int8_t *keys = a->rows.keys;
    rounding r = rounding_to(SLM_QUERY_LIMIT, slm_peak_ref(q, a->d));
    for (int32_t j = seen.first; j < seen.stop; j++) {
        int32_t sum = 0;
        for (int64_t i = 0; i < a->d; i++) sum += rounded(q[i], r.inverse, SLM_QUERY_LIMIT) * keys[slm_key_index(SLM_Q8, a->d, j, i)];
        scores[j] = (float)sum * (a->rows.key_scales[j] * r.scale);
    }
}

static void gather(const slm_attend *a, float *weights, slm_seen seen, float *out) {
    const int8_t *values = a->rows.values;
    for (int32_t j = seen.first; j < seen.stop; j++) weights[j] *= a->rows.value_scales[j];
    rounding r = rounding_to(SLM_WEIGHT_LIMIT, slm_peak_ref(weights + seen.first, seen.stop - seen.first));
    for (int64_t i = 0; i < a->d; i++) {
        int32_t sum = 0;
        for (int32_t j = seen.first; j < seen.stop; j++)
            sum += rounded(weights[j], r.inverse, SLM_WEIGHT_LIMIT) * values[slm_value_index(SLM_Q8, j, i)];
        out[i] = (float)sum * r.scale;
    }
}

void slm_attend_q8_ref(const slm_attend *a) { slm_attend_ref(a, score, gather); }
