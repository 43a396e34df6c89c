/* What the quantisers of the blockwise formats share. Definition: edgeslm/formats/blockwise.py; results are the same bits. Sums run in
 * eight lanes and are added in the order of NumPy's pairwise summation, so that a tie between candidates falls the same way. */
#ifndef SLM_QUANTIZE_H
#define SLM_QUANTIZE_H

#include <math.h>
#include <string.h>

#include "kernels.h"

enum { SLM_LANES = 8, SLM_MAX_GROUP = 128, SLM_SEARCH = 8 };

/* Below these an inverse would overflow; the group is stored as zeros. */
#define SLM_TINY_SCALE 0x1p-126f
#define SLM_TINY_PEAK 1e-36f

/* The value of largest magnitude, the first on a tie. */
static inline float slm_peak(const float *w, int group) {
    float lanes[SLM_LANES] = {0}, magnitude = 0;
    for (int i = 0; i < group; i += SLM_LANES)
        for (int l = 0; l < SLM_LANES; l++) lanes[l] = fabsf(w[i + l]) > lanes[l] ? fabsf(w[i + l]) : lanes[l];
    for (int l = 0; l < SLM_LANES; l++) magnitude = lanes[l] > magnitude ? lanes[l] : magnitude;
    for (int i = 0; i < group; i++)
        if (fabsf(w[i]) == magnitude) return w[i];
    return 0;
}

/* Best candidate so far of a group's search. */
typedef struct slm_q4_best {
    float gain, step, scale;
} slm_q4_best;

/* Candidate c = 0..2 * SLM_SEARCH as a step. */
static inline float slm_q4_step(float peak, int c) {
    float inverse = fabsf(peak) >= SLM_TINY_PEAK ? -8.0f / peak : 0.0f;
    return inverse * (float)(1 + 0.0125 * (c - SLM_SEARCH));
}

/* wq, qq: sums of w * q and q * q at the step. */
static inline void slm_q4_consider(slm_q4_best *best, float step, float wq, float qq) {
    qq = qq > 1.0f ? qq : 1.0f;
    float gain = wq * wq / qq;
    if (gain > best->gain) *best = (slm_q4_best){gain, step, wq / qq};
}

typedef void slm_quantize_group_fn(const float *w, int group, uint8_t *data, float *scale);

/* Calls `quantize` for each group; the last one of a row is padded with zeros. */
static inline void slm_quantize_rows(slm_quantize_group_fn *quantize, const float *rows, int64_t n, int64_t k, int32_t group,
                                     int64_t group_bytes, uint8_t *data, float *scales) {
    int64_t groups = slm_groups(k, group), whole = k / group;
    for (int64_t j = 0; j < n; j++, rows += k)
        for (int64_t g = 0; g < groups; g++, data += group_bytes, scales++) {
            const float *w = rows + g * group;
            float padded[SLM_MAX_GROUP] = {0};
            if (g == whole) w = memcpy(padded, w, (size_t)(k - g * group) * sizeof *w);
            quantize(w, group, data, scales);
        }
}

#endif
