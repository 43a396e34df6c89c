#include "kernels.h"
#include "math_avx2.h"

void slm_rope_avx2(float *x, const float *cosine, const float *sine, int64_t half) {
    for (int64_t i = 0; i < half; i += 8) {
        __m256i lanes = slm_lanes_avx2(half - i);
        __m256 low = _mm256_maskload_ps(x + i, lanes), high = _mm256_maskload_ps(x + half + i, lanes);
        __m256 c = _mm256_maskload_ps(cosine + i, lanes), s = _mm256_maskload_ps(sine + i, lanes);
        _mm256_maskstore_ps(x + i, lanes, _mm256_fmsub_ps(low, c, _mm256_mul_ps(high, s)));
        _mm256_maskstore_ps(x + half + i, lanes, _mm256_fmadd_ps(high, c, _mm256_mul_ps(low, s)));
    }
}
