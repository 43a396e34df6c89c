/* What the quantisers of the blockwise formats share. Definition: edgeslm/formats/blockwise.py; results are the same bits. Sums run in
 * eight lanes and are added in the order of NumPy's pairwise summation, so that a tie between candidates falls the same way. */
#ifndef SLM_QUANTIZE_H
#define SLM_QUANTIZE_H

#include <math.h>
#include <string.h>

#include "kernels.h"

enum { SLM_LANES = 8, SLM_MAX_GROUP = 128, SLM_SEARCH = 8, SLM_CANDIDATES = 2 * SLM_SEARCH + 1 };

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

/* To the significand of a half, ties to even; the exponent stays a float's. */
static inline float slm_round_scale(float scale) {
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~(uint32_t)0x1fff;
    memcpy(&scale, &bits, sizeof bits);
    return scale;
}

/* What maps weights to integers. */
static inline float slm_inverse_scale(float scale) { return fabsf(scale) >= SLM_TINY_SCALE ? 1.0f / scale : 0.0f; }

static inline float slm_sum_lanes(const float s[SLM_LANES]) {
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* A group, and how much the error of each value counts: v = sqrt(mean of t^2 + t^2), t = w * inverse. */
typedef struct slm_q4_group {
    float v[SLM_MAX_GROUP], vw[SLM_MAX_GROUP]; /* v; v * w */
    const float *w;
    int n;
    float inverse; /* maps the peak to -8 */
} slm_q4_group;

/* The candidates of a group's search: sums of v * w * q and of v * q * q. */
typedef struct slm_q4_search {
    float wq[SLM_CANDIDATES], qq[SLM_CANDIDATES];
} slm_q4_search;

static inline void slm_q4_weigh(slm_q4_group *g, const float *w, int n) {
    float peak = slm_peak(w, n), sums[SLM_LANES] = {0};
    g->w = w;
    g->n = n;
    g->inverse = fabsf(peak) >= SLM_TINY_PEAK ? -8.0f / peak : 0.0f;
    for (int i = 0; i < n; i += SLM_LANES)
        for (int l = 0; l < SLM_LANES; l++) {
            float t = w[i + l] * g->inverse;
            g->v[i + l] = t * t;
            sums[l] += t * t;
        }
    float mean = slm_sum_lanes(sums) / (float)n;
    for (int i = 0; i < n; i++) g->v[i] = sqrtf(mean + g->v[i]);
    for (int i = 0; i < n; i++) g->vw[i] = g->v[i] * w[i];
}

/* Step of candidate c = 0..SLM_CANDIDATES-1. */
static inline float slm_q4_step(float inverse, int c) { return inverse * (float)(1 + 0.0125 * (c - SLM_SEARCH)); }

/* The best scale of the candidate that explains most of the group, the first on a tie. */
static inline float slm_q4_scale(slm_q4_search *s) {
    float gain[SLM_CANDIDATES];
    int best = 0;
    for (int c = 0; c < SLM_CANDIDATES; c++) s->qq[c] = s->qq[c] > 1.0f ? s->qq[c] : 1.0f;
    for (int c = 0; c < SLM_CANDIDATES; c++) gain[c] = s->wq[c] * s->wq[c] / s->qq[c];
    for (int c = 1; c < SLM_CANDIDATES; c++) best = gain[c] > gain[best] ? c : best;
    return slm_round_scale(s->wq[best] / s->qq[best]);
}

typedef void slm_quantize_group_fn(const float *w, int group, uint8_t *data, float *scale);

/* Calls `quantize` for each group; the last one of a row is padded with zeros. */
static inline void slm_quantize_rows(slm_quantize_group_fn *quantize, const float *rows, int64_t n, int64_t k, int32_t group,
                                     int64_t group_bytes, uint8_t *data, float *scales) {
    int64_t groups = slm_groups(k, group), whole = k / group;
    for (int64_t j = 0; j < n; j++, rows += k)
        for (int64_t g = 0; g < groups; g++, data += group_bytes, scales++) {
            const float *w = rows + g * group;
            if (g < whole) {
                quantize(w, group, data, scales);
            } else {
                float padded[SLM_MAX_GROUP] = {0};
                memcpy(padded, w, (size_t)(k - g * group) * sizeof *w);
                quantize(padded, group, data, scales);
            }
        }
}

#endif
