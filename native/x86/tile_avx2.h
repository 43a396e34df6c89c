/* The prefill tile of AVX2: 4 tokens by 16 outputs. Sums of a group stay in registers, float results in the tile. */
#ifndef SLM_X86_TILE_AVX2_H
#define SLM_X86_TILE_AVX2_H

#include <immintrin.h>

#include "rows.h"

enum { SLM_WIDTH = 16, SLM_HEIGHT = 4 };

/* Adds the dot products over inputs k..k+31 to acc. */
typedef void slm_tile32_fn(const uint8_t *panel, const slm_act_row *rows, int64_t k, __m256i acc[SLM_HEIGHT][2]);

static inline __m256i slm_sum_pairs(__m256i v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }

/* Four values of an activation row in every dword. */
static inline __m256i slm_broadcast4(const int8_t *values) {
    int32_t four;
    memcpy(&four, values, sizeof four);
    return _mm256_set1_epi32(four);
}

/* use_corrections: the weights in the panel are unsigned. */
static inline __attribute__((always_inline)) void slm_tile_avx2(const uint8_t *panel, const float *scales, const slm_act_row *rows,
                                                                int64_t group, int64_t groups, float *out, slm_tile32_fn *tile32,
                                                                int use_corrections) {
    memset(out, 0, SLM_HEIGHT * SLM_WIDTH * sizeof *out);
    for (int64_t g = 0; g < groups; g++) {
        __m256i acc[SLM_HEIGHT][2];
        for (int r = 0; r < SLM_HEIGHT; r++) acc[r][0] = acc[r][1] = _mm256_set1_epi32(use_corrections ? rows[r].corrections[g] : 0);
        for (int64_t k = g * group; k < (g + 1) * group; k += 32) tile32(panel, rows, k, acc);
        for (int r = 0; r < SLM_HEIGHT; r++)
            for (int v = 0; v < 2; v++) {
                __m256 scale = _mm256_mul_ps(_mm256_load_ps(scales + g * SLM_WIDTH + v * 8), _mm256_set1_ps(rows[r].scales[g]));
                float *o = out + r * SLM_WIDTH + v * 8;
                _mm256_store_ps(o, _mm256_add_ps(_mm256_load_ps(o), _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][v]), scale)));
            }
    }
}

#endif
