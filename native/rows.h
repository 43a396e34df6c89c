/* Views into packed activation rows and blockwise weights, shared by the kernels of all instruction sets. */
#ifndef SLM_ROWS_H
#define SLM_ROWS_H

#include <string.h>

#include "kernels.h"

/* Below this largest magnitude a group is stored as zero: its inverse scale would overflow. */
#define SLM_PACK_TINY 1e-36f

typedef struct slm_act_row {
    const int8_t *values;
    const float *scales;
    const int32_t *corrections;
} slm_act_row;

/* Row i of packed rows for the weight w (q8, q4). */
static inline slm_act_row slm_act_row_at(const slm_matrix *w, const void *x, size_t x_stride, int64_t i) {
    int64_t groups = slm_groups(w->k, w->group);
    const int8_t *values = (const int8_t *)x + (size_t)i * x_stride;
    const float *scales = (const float *)(values + groups * w->group);
    return (slm_act_row){values, scales, (const int32_t *)(scales + groups)};
}

/* IEEE half to single precision, exact; NaN stays NaN. A half's exponent and fraction, moved to a float's place, are 2^-112 of its
 * value, subnormals included; only infinity and NaN have to keep the top exponent. */
static inline float slm_half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = (uint32_t)(h & 0x7fff) << 13, scaled;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&scaled, &value, sizeof scaled);
    bits = sign | (bits < 0x0f800000 ? scaled : bits | 0x7f800000);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The nearest half, even on a tie; beyond the largest, 65504, that one; NaN stays NaN. Adding a power of two 2^13 times as large as a half's
 * last place rounds there. */
static inline uint16_t slm_float_to_half(float x) {
    uint32_t bits, sign, unit;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (bits > 0x477fe000) return (uint16_t)(sign | 0x7bff); /* 65504 */
    unit = bits & 0x7f800000;
    if (unit < 0x38800000) unit = 0x38800000; /* 2^-14, the smallest normal half */
    float magnitude, magic;
    memcpy(&magnitude, &bits, sizeof magnitude);
    unit += 13u << 23;
    memcpy(&magic, &unit, sizeof magic);
    float rounded = magnitude + magic;
    memcpy(&bits, &rounded, sizeof bits);
    /* The sum's fraction counts units of a half's last place; its exponent is that of the half plus a constant. */
    return (uint16_t)(sign | (((unit - (13u << 23) - 0x38800000) >> 13) + (bits - unit)));
}

/* Writes `count` neighbouring outputs of one row: sums times scale plus bias (or NULL), with accumulate added to what is there. */
static inline void slm_store_outputs(const float *sums, int64_t count, float scale, float *y, const float *bias, int accumulate) {
    for (int64_t j = 0; j < count; j++) {
        float v = bias ? sums[j] * scale + bias[j] : sums[j] * scale;
        y[j] = accumulate ? y[j] + v : v;
    }
}

#endif
