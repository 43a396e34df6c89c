#include <math.h>

#include "float_avx2.h"
#include "kernels.h"
#include "math_avx2.h"

static float sum_of_squares(const float *x, int64_t n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 4; j++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            s[j] = _mm256_fmadd_ps(v, v, s[j]);
        }
    for (; i < n; i += 8) {
        __m256 v = slm_load8(x + i, n - i);
        s[0] = _mm256_fmadd_ps(v, v, s[0]);
    }
    return slm_sum_avx2(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

void slm_norm_avx2(const float *x, const float *weight, float eps, int64_t n, float *out, int accumulate) {
    __m256 inverse = _mm256_set1_ps(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 8) {
        __m256 y = _mm256_mul_ps(_mm256_mul_ps(slm_load8(x + i, n - i), inverse), slm_load8(weight + i, n - i));
        if (accumulate) y = _mm256_add_ps(slm_load8(out + i, n - i), y);
        slm_store8(out + i, n - i, y);
    }
}
