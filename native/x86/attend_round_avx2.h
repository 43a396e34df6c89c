/* Rounding and broadcasts for the attend_q8 kernels of x86, behind attend_avx2.h. */
#include "attend_rounding.h"
#include "pack_avx2.h"

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

/* Two 16-bit values, eight times. */
INLINE __m256i every_pair(const int16_t *x) {
    return _mm256_castps_si256(_mm256_broadcast_ss((const float *)(const void *)x));
}
