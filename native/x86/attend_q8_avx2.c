#include "attend_avx2.h"
#include "pack_avx2.h"

enum { BYTE_VECTORS = 1 };
#define PEAK(x, n) slm_peak_avx2(x, n)
#define ROUND(x, inverse, limit, out) round16(x, inverse, limit, out)

INLINE __m256i round8(const float *x, float inverse, float limit) {
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse));
    v = _mm256_max_ps(v, _mm256_set1_ps(-limit)); /* the second operand for NaN */
    return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(limit)));
}

INLINE void round16(const float *x, float inverse, float limit, int16_t *out) {
    __m256i v = _mm256_packs_epi32(round8(x, inverse, limit), round8(x + 8, inverse, limit));
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permute4x64_epi64(v, 0xd8));
}

INLINE __m256i widen(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)); }

/* Pairs of products stay apart to the end: lanes 0, 0, 1, 1, 2, … in one sum, 4, 4, 5, 5, … in the other. */
INLINE void dot_quads(const int8_t *panel, int64_t quads, const int16_t *x, int64_t stride, int heads, __m256 (*out)[BYTE_VECTORS]) {
    __m256i low[TOGETHER], high[TOGETHER];
    for (int h = 0; h < heads; h++) low[h] = high[h] = _mm256_setzero_si256();
    for (int64_t i = 0; i < quads; i++) {
        __m256i a = widen(panel + 32 * i), b = widen(panel + 32 * i + 16);
        for (int h = 0; h < heads; h++) {
            int64_t quad;
            memcpy(&quad, x + h * stride + 4 * i, sizeof quad);
            __m256i times = _mm256_set1_epi64x(quad);
            low[h] = _mm256_add_epi32(low[h], _mm256_madd_epi16(a, times));
            high[h] = _mm256_add_epi32(high[h], _mm256_madd_epi16(b, times));
        }
    }
    for (int h = 0; h < heads; h++) /* lanes 0, 1, 4, 5, 2, 3, 6, 7 */
        out[h][0] = _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(_mm256_hadd_epi32(low[h], high[h]), 0xd8));
}

#include "template/attend_q8.h"

void slm_attend_q8_avx2(const slm_attend *a) { attend(a, score, gather); }
