/* Decode of blockwise weights: few tokens, the weights read once and in place, four outputs at a time. AVX2. */
#ifndef SLM_X86_DECODE_H
#define SLM_X86_DECODE_H

#include <immintrin.h>

#include "rows.h"
#include "scales.h"

/* Four vectors of partial sums → per 128-bit half the totals of rows 0..3. */
static inline __m256i slm_sum_rows4(__m256i v0, __m256i v1, __m256i v2, __m256i v3) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(v0, v1), _mm256_hadd_epi32(v2, v3));
}

static inline __m128i slm_add_halves(__m256i v) {
    return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Four weight rows, and how they meet group g of an activation row. */
typedef struct slm_rows4 {
    const uint8_t *data[4];
    const float *scales; /* [groups][4] */
    int64_t row_bytes;
} slm_rows4;

/* Rows are too short for the hardware to see where they go on: ask for the same place in the next four. */
static inline void slm_prefetch_rows4(const slm_rows4 *w, int64_t at) {
    for (int r = 0; r < 4; r++) _mm_prefetch((const char *)w->data[r] + 4 * w->row_bytes + at, _MM_HINT_T0);
}

/* acc + integers * (weight scales * activation scale), rounded after each operation as in `ref`. */
static inline __m128 slm_add_group4(__m128 acc, __m128i integers, const slm_rows4 *w, const slm_act_row *a, int64_t g) {
    __m128 scales = _mm_mul_ps(_mm_load_ps(w->scales + g * 4), _mm_set1_ps(a->scales[g]));
    return _mm_add_ps(acc, _mm_mul_ps(_mm_cvtepi32_ps(integers), scales));
}

typedef __m128 slm_dot4_fn(const slm_rows4 *w, const slm_act_row *a, int64_t group, int64_t groups);

static inline __attribute__((always_inline)) void slm_linear_rows4(const slm_matrix *w, int64_t row_bytes, slm_dot4_fn *dot4,
                                                                   int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m,
                                                                   float *y, int64_t y_stride, const float *bias, int accumulate,
                                                                   float *scales) {
    int64_t groups = slm_groups(w->k, w->group);
    for (int64_t j = n0; j < n1; j += 4) {
        int64_t count = n1 - j < 4 ? n1 - j : 4;
        slm_rows4 rows = {.scales = scales, .row_bytes = row_bytes};
        const uint16_t *halves[4];
        for (int64_t r = 0; r < 4; r++) { /* past the end the last row is repeated, and its result dropped */
            int64_t row = j + (r < count ? r : count - 1);
            rows.data[r] = (const uint8_t *)w->data + row * row_bytes;
            halves[r] = w->scales + row * groups;
        }
        slm_widen_scales4(halves, groups, 4, scales);
        for (int64_t i = 0; i < m; i++) {
            slm_act_row a = slm_act_row_at(w, x, x_stride, i);
            float sums[4];
            _mm_storeu_ps(sums, dot4(&rows, &a, w->group, groups));
            slm_store_outputs(sums, count, w->scale, y + i * y_stride + j, bias ? bias + j : NULL, accumulate);
        }
    }
}

#endif
