/* Elementary functions of 8 floats, and sums over them. Errors are relative to the true value unless said otherwise. */
#ifndef SLM_MATH_AVX2_H
#define SLM_MATH_AVX2_H

#ifndef __AVX2__
#error "compile with AVX2, FMA and F16C"
#endif

#include <immintrin.h>
#include <stdint.h>

/* exp(x), within 2e-7; 0 below -87.3, no larger than exp(88); NaN stays NaN.
 * x = n ln 2 + r, with n in the low bits of a float in which nothing else has room; 1 + r + r^2 P(r) on [-ln 2 / 2, ln 2 / 2], within 4e-9
 * of exp(r); times 2^n through the exponent bits. Short chains, as their length is what an exp costs. */
static inline __m256 slm_exp_avx2(__m256 x) {
    const __m256 low = _mm256_set1_ps(-87.3f), one = _mm256_set1_ps(1.0f), room = _mm256_set1_ps(0x1.8p23f);
    __m256 tiny = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
    x = _mm256_max_ps(low, _mm256_min_ps(_mm256_set1_ps(88.0f), x)); /* with NaN both return the second operand */
    __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504f), room), n = _mm256_sub_ps(shifted, room);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 square = _mm256_mul_ps(r, r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(1.6666520107e-1f), r, _mm256_set1_ps(4.9999993412e-1f));
    __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(8.3687804514e-3f), r, _mm256_set1_ps(4.1668394216e-2f));
    q = _mm256_fmadd_ps(_mm256_set1_ps(1.3814466978e-3f), square, q);
    __m256 y = _mm256_fmadd_ps(_mm256_fmadd_ps(q, square, p), square, _mm256_add_ps(r, one));
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), exponent));
    return _mm256_andnot_ps(tiny, y);
}

/* tanh(x), within 2e-7 absolute. */
static inline __m256 slm_tanh_avx2(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 e = slm_exp_avx2(_mm256_add_ps(x, x));
    return _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
}

/* The lanes below `count`, for masked loads and stores. */
static inline __m256i slm_lanes_avx2(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count < 8 ? count : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline float slm_sum_avx2(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float slm_max_avx2(__m256 v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#endif
