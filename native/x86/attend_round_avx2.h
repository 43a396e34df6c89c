/* Rounding for the attend_q8 kernels of 256 bits, behind attend_avx2.h. */
#include "attend_rounding.h"
#include "pack_avx2.h"

#define MAGNITUDE(x, n) slm_magnitude_avx2(x, n)

INLINE __m256i round8(const float *x, float inverse, float limit) {
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse));
    v = _mm256_max_ps(v, _mm256_set1_ps(-limit)); /* the second operand for NaN */
    return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(limit)));
}

/* To 16-bit values, in order. */
INLINE __m256i round16(const float *x, float inverse, float limit) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(round8(x, inverse, limit), round8(x + 8, inverse, limit)), 0xd8);
}
