/* template/attend.h for AVX-512. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* exp of at most 0, within 2e-7, and 6e-8 |x| more from the rounding of x log2(e); of what is below -60 that of -60, which beside a 1 is nothing
 * and whose products are still normal numbers; NaN stays NaN. 2^f on [0, 1), within 9e-8 and 1 at 0, times 2^floor: fewer steps than
 * slm_exp_avx2 takes. */
static inline __m512 slm_exp_avx512(__m512 x) {
    __m512 t = _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(-60.0f), x), _mm512_set1_ps(1.44269504f));
    __m512 f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF), square = _mm512_mul_ps(f, f);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.0557999164f), f, _mm512_set1_ps(0.240164444f));
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(0.00186713168f), f, _mm512_set1_ps(0.009017027f));
    __m512 r = _mm512_fmadd_ps(_mm512_set1_ps(0.693151295f), f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(_mm512_fmadd_ps(q, square, p), square, r), t);
}

/* tanh(x), within 2e-7 absolute, from exp(-2 |x|). */
static inline __m512 slm_tanh_avx512(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    __m512 e = slm_exp_avx512(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-2.0f)));
    __m512 y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), sign));
}

/* Lanes first..stop-1 of v, elsewhere of other. */
static inline __m512 slm_within_avx512(__m512 v, int32_t first, int32_t stop, __m512 other) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 below = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(first), lanes);
    __mmask16 inside = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(stop), lanes);
    return _mm512_mask_blend_ps((__mmask16)(inside & ~below), other, v);
}

/* By bits, of which those of NaN, whose sign may be set, are the largest. */
static inline __m512 slm_peak_avx512(__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

static inline float slm_peak_of_avx512(__m512 v) {
    uint32_t bits = _mm512_reduce_max_epu32(_mm512_castps_si512(v));
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define VEC __m512
#define LANES 16
#define ZERO() _mm512_setzero_ps()
#define SET1(x) _mm512_set1_ps(x)
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define DIV(a, b) _mm512_div_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#define EXP(v) slm_exp_avx512(v)
#define TANH(v) slm_tanh_avx512(v)
#define WITHIN(v, first, stop, other) slm_within_avx512(v, first, stop, other)
#define SUM(v) _mm512_reduce_add_ps(v)
#define LARGEST(v) _mm512_reduce_max_ps(v)
#define PEAK(a, b) slm_peak_avx512(a, b)
#define PEAK_OF(v) slm_peak_of_avx512(v)
#include "template/attend.h"
