/* template/attend.h for AVX2. */
#include "float_avx2.h"
#include "math_avx2.h"

/* Lanes first..stop-1 of v, elsewhere of other. */
static inline __m256 slm_within_avx2(__m256 v, int32_t first, int32_t stop, __m256 other) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(first), lanes), inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(stop), lanes);
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(_mm256_andnot_si256(below, inside)));
}

/* By bits, of which those of NaN, whose sign may be set, are the largest. */
static inline __m256 slm_peak_avx2(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

static inline float slm_peak_of_avx2(__m256 v) {
    __m128i m = _mm_castps_si128(_mm256_castps256_ps128(v)), n = _mm_castps_si128(_mm256_extractf128_ps(v, 1));
    m = _mm_max_epu32(m, n);
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

#define VEC __m256
#define LANES 8
#define ZERO() _mm256_setzero_ps()
#define SET1(x) _mm256_set1_ps(x)
#define LOAD(p) _mm256_loadu_ps(p)
#define LOAD_HALF(p) slm_load_half8(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define DIV(a, b) _mm256_div_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define FMA_SCALAR(acc, v, x) _mm256_fmadd_ps(_mm256_set1_ps(x), v, acc)
#define EXP(v) slm_exp_avx2(v)
#define TANH(v) slm_tanh_avx2(v)
#define WITHIN(v, first, stop, other) slm_within_avx2(v, first, stop, other)
#define SUM(v) slm_sum_avx2(v)
#define LARGEST(v) slm_max_avx2(v)
#define PEAK(a, b) slm_peak_avx2(a, b)
#define PEAK_OF(v) slm_peak_of_avx2(v)
#include "template/attend.h"
