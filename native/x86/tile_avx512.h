/* The prefill tile of AVX-512 VNNI: 8 tokens by 32 outputs. Weights are unsigned bytes as stored, so q8 and q4 share it; their zero
 * point is in the corrections, from which the sums of a group begin. */
#ifndef SLM_X86_TILE_AVX512_H
#define SLM_X86_TILE_AVX512_H

#if !defined(__AVX512VNNI__) || !defined(__AVX512VL__)
#error "tile_avx512.h needs AVX-512 VL and VNNI"
#endif

#include <immintrin.h>

#include "rows.h"

enum { SLM_WIDTH = 32, SLM_HEIGHT = 8 };

static inline __m512i slm_broadcast4(const int8_t *values) {
    int32_t four;
    memcpy(&four, values, sizeof four);
    return _mm512_set1_epi32(four);
}

static inline void slm_tile_avx512(const uint8_t *panel, const float *scales, const slm_act_row *rows, int64_t group, int64_t groups,
                                   float *out) {
    memset(out, 0, SLM_HEIGHT * SLM_WIDTH * sizeof *out);
    for (int64_t g = 0; g < groups; g++) {
        __m512i acc[SLM_HEIGHT][2];
        for (int r = 0; r < SLM_HEIGHT; r++) acc[r][0] = acc[r][1] = _mm512_set1_epi32(rows[r].corrections[g]);
        for (int64_t k = g * group; k < (g + 1) * group; k += 4) {
            __m512i w0 = _mm512_load_si512(panel + k * SLM_WIDTH), w1 = _mm512_load_si512(panel + k * SLM_WIDTH + 64);
            for (int r = 0; r < SLM_HEIGHT; r++) {
                __m512i a = slm_broadcast4(rows[r].values + k);
                acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w0, a);
                acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w1, a);
            }
        }
        for (int r = 0; r < SLM_HEIGHT; r++)
            for (int v = 0; v < 2; v++) {
                __m512 scale = _mm512_mul_ps(_mm512_load_ps(scales + g * SLM_WIDTH + v * 16), _mm512_set1_ps(rows[r].scales[g]));
                float *o = out + r * SLM_WIDTH + v * 16;
                _mm512_store_ps(o, _mm512_add_ps(_mm512_load_ps(o), _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][v]), scale)));
            }
    }
}

#endif
