#include "float_avx2.h"
#include "kernels.h"
#include "math_avx2.h"

float slm_exp_sum_avx2(const float *x, int64_t n, float top) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    const __m256 t = _mm256_set1_ps(top);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 4; j++) s[j] = _mm256_add_ps(s[j], slm_exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(x + i + 8 * j), t)));
    for (; i < n; i += 8) {
        __m256 y = slm_exp_avx2(_mm256_sub_ps(slm_load8(x + i, n - i), t));
        s[0] = _mm256_add_ps(s[0], _mm256_and_ps(y, _mm256_castsi256_ps(slm_mask8(n - i))));
    }
    __m128 sum = slm_sum4(s[0], s[1], s[2], s[3]);
    sum = _mm_hadd_ps(sum, sum);
    return _mm_cvtss_f32(_mm_hadd_ps(sum, sum));
}
