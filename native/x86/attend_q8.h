/* Dot products of 16-bit values with bytes for the attend_q8 kernels of 256 bits, behind attend_round_avx2.h. The including file defines
 *
 *     add_products(sum, a, b)   adds the products of 16-bit neighbours to sum, in 8 lanes
 */
enum { TILE_HEADS = 6, TILE_PANELS = 1 };

/* 8 lanes of a slice. */
INLINE __m256i widen(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)); }

/* Unrolled, or gcc leaves the sums in memory. */
INLINE void dot_slices(const slm_panel_call *c, int heads, __m256 (*out)[BYTE_VECTORS]) {
    __m256i low[TILE_HEADS], high[TILE_HEADS];
    for (int h = 0; h < heads; h++) low[h] = high[h] = _mm256_setzero_si256();
    for (int64_t i = 0; i < c->slices; i++) {
        __m256i a = widen(c->panel + 32 * i), b = widen(c->panel + 32 * i + 16);
        UNROLL(6)
        for (int h = 0; h < heads; h++) {
            __m256i times = every_pair(c->x + h * c->stride + 2 * i);
            add_products(low + h, a, times);
            add_products(high + h, b, times);
        }
        __builtin_prefetch(c->ahead + c->ahead_step * i);
    }
    for (int h = 0; h < heads; h++) {
        out[h][0] = _mm256_cvtepi32_ps(low[h]);
        out[h][1] = _mm256_cvtepi32_ps(high[h]);
    }
}

#include "template/attend_q8.h"
