#include "attend_avx2.h"
#include "attend_round_avx2.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "attend_q8_avx512.c needs AVX-512 BW, DQ and VNNI"
#endif

enum { TILE_HEADS = 8 };

INLINE __m512i slice_of(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

INLINE __m512i pair_of(const int16_t *x) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* Two slices at a time, with sums of their own: each waits for the one before it. There is an even number. */
INLINE void dot_slices(const int8_t *panel, int64_t slices, const int16_t *x, int64_t stride, int heads, const char *ahead,
                       __m256 (*out)[BYTE_VECTORS]) {
    __m512i even[TILE_HEADS], odd[TILE_HEADS];
    for (int h = 0; h < heads; h++) even[h] = odd[h] = _mm512_setzero_si512();
    for (int64_t i = 0; i < slices; i += 2) {
        __m512i a = slice_of(panel + 32 * i), b = slice_of(panel + 32 * i + 32);
        UNROLL(8)
        for (int h = 0; h < heads; h++) {
            even[h] = _mm512_dpwssd_epi32(even[h], a, pair_of(x + h * stride + 2 * i));
            odd[h] = _mm512_dpwssd_epi32(odd[h], b, pair_of(x + h * stride + 2 * i + 2));
        }
        __builtin_prefetch(ahead + 32 * i, 0, 2); /* into the second-level cache: the first has the panel and these rows */
    }
    for (int h = 0; h < heads; h++) {
        __m512 sums = _mm512_cvtepi32_ps(_mm512_add_epi32(even[h], odd[h]));
        out[h][0] = _mm512_castps512_ps256(sums);
        out[h][1] = _mm512_extractf32x8_ps(sums, 1);
    }
}

#include "template/attend_q8.h"

void slm_attend_q8_avx512(const slm_attend *a) { attend(a, score, gather); }
