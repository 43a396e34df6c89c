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

/* IEEE half to single precision, exact; NaN stays NaN. */
static inline float slm_half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = (uint32_t)(h & 0x7fff) << 13, bits;
    if (magnitude >= 0x0f800000) bits = magnitude + 0x70000000;      /* infinity, NaN: exponent 31 becomes 255 */
    else if (magnitude >= 0x00800000) bits = magnitude + 0x38000000; /* exponent bias 15 becomes 127 */
    else { /* zero and subnormal: fraction * 2^-24 */
        float f = (float)(h & 0x3ff) * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
    }
    bits |= sign;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

/* Writes `count` neighbouring outputs of one row: sums plus bias (or NULL), with accumulate added to what is there. */
static inline void slm_store_outputs(const float *sums, int64_t count, float *y, const float *bias, int accumulate) {
    for (int64_t j = 0; j < count; j++) {
        float v = bias ? sums[j] + bias[j] : sums[j];
        y[j] = accumulate ? y[j] + v : v;
    }
}

#endif
