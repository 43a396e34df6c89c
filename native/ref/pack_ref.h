/* Quantising one group of activations, shared by pack_q8_ref and pack_q4_ref. */
#ifndef SLM_PACK_REF_H
#define SLM_PACK_REF_H

#include <math.h>

#include "rows.h"

/* Largest |x|. Compared as integers, a NaN is larger than everything, so it reaches the scale and is not lost. */
static inline float slm_peak_ref(const float *x, int64_t n) {
    uint32_t peak = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        if (bits > peak) peak = bits;
    }
    float out;
    memcpy(&out, &peak, sizeof out);
    return out;
}

/* Where |x| is largest `peak`: x * inverse is within -127..127, and a byte times scale is x again. */
static inline float slm_byte_inverse_ref(float peak) {
    return peak >= SLM_PACK_TINY ? 127.0f / peak : 0.0f; /* false for NaN, so that the padding stays 0 */
}

static inline float slm_byte_scale_ref(float peak) { return peak < SLM_PACK_TINY ? 0.0f : peak / 127.0f; }

static inline int8_t slm_round_byte_ref(float x, float inverse) {
    float v = x * inverse;
    v = v > -127.0f ? v : -127.0f; /* NaN becomes -127: the scale carries it */
    return (int8_t)lrintf(v < 127.0f ? v : 127.0f);
}

/* Up to `group` values of x into out, padded with zeros; returns the scale, adds the values to *sum. */
static inline float slm_pack_group_ref(const float *x, int64_t n, int64_t group, int8_t *out, int32_t *sum) {
    float peak = slm_peak_ref(x, n), inverse = slm_byte_inverse_ref(peak);
    for (int64_t i = 0; i < n; i++) {
        out[i] = slm_round_byte_ref(x[i], inverse);
        *sum += out[i];
    }
    memset(out + n, 0, (size_t)(group - n));
    return slm_byte_scale_ref(peak);
}

#endif
