#include "float_avx2.h"
#include "kernels.h"

void slm_rope_avx2(float *x, const float *cosine, const float *sine, int64_t half) {
    for (int64_t i = 0; i < half; i += 8) {
        int64_t n = half - i;
        __m256 low = slm_load8(x + i, n), high = slm_load8(x + half + i, n);
        __m256 c = slm_load8(cosine + i, n), s = slm_load8(sine + i, n);
        slm_store8(x + i, n, _mm256_fmsub_ps(low, c, _mm256_mul_ps(high, s)));
        slm_store8(x + half + i, n, _mm256_fmadd_ps(high, c, _mm256_mul_ps(low, s)));
    }
}
