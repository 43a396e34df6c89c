#include "float_avx2.h"
#include "kernels.h"
#include "math_avx2.h"

static __m256 sigmoid_times(__m256 x, __m256 t) { /* x * sigmoid(t) */
    __m256 e = slm_exp_avx2(_mm256_sub_ps(_mm256_setzero_ps(), t));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

/* 0.5 x (1 + tanh u) = x sigmoid(2 u). */
static __m256 gelu_tanh(__m256 x) {
    __m256 cubic = _mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_mul_ps(x, _mm256_set1_ps(0.044715f)));
    return sigmoid_times(x, _mm256_mul_ps(_mm256_add_ps(x, cubic), _mm256_set1_ps(2 * 0.79788456f)));
}

/* erf(x), within 4e-7 absolute: x P(x^2) / Q(x^2), the rational approximation of Eigen (generic_fast_erf_float). */
static __m256 erf8(__m256 x) {
    static const float P[] = {-2.72614225801306e-10f, 2.77068142495902e-08f, -2.10102402082508e-06f, -5.69250639462346e-05f,
                              -7.34990630326855e-04f, -2.95459980854025e-03f, -1.60960333262415e-02f};
    static const float Q[] = {-1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f,
                              -1.42647390514189e-02f};
    x = _mm256_max_ps(_mm256_set1_ps(-4.0f), _mm256_min_ps(_mm256_set1_ps(4.0f), x));
    __m256 square = _mm256_mul_ps(x, x), p = _mm256_set1_ps(P[0]), q = _mm256_set1_ps(Q[0]);
    for (int i = 1; i < 7; i++) p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(P[i]));
    for (int i = 1; i < 5; i++) q = _mm256_fmadd_ps(q, square, _mm256_set1_ps(Q[i]));
    return _mm256_div_ps(_mm256_mul_ps(x, p), q);
}

static __m256 gelu(__m256 x) {
    __m256 y = erf8(_mm256_mul_ps(x, _mm256_set1_ps(0.70710678f)));
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(0.5f), x), _mm256_add_ps(_mm256_set1_ps(1.0f), y));
}

void slm_act_mul_avx2(float *gate, const float *up, int64_t n, int act) {
    for (int64_t i = 0; i < n; i += 8) {
        __m256 x = slm_load8(gate + i, n - i);
        x = act == SLM_SILU ? sigmoid_times(x, x) : act == SLM_GELU ? gelu(x) : gelu_tanh(x);
        slm_store8(gate + i, n - i, _mm256_mul_ps(x, slm_load8(up + i, n - i)));
    }
}
