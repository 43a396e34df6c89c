/* template/attend.h for AVX-512: the operations of attend_avx2.h on 16 lanes, and the same bits. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* slm_exp_avx2 of 16 lanes. */
static inline __m512 slm_exp_avx512(__m512 x) {
    const __m512 low = _mm512_set1_ps(-87.3f), room = _mm512_set1_ps(0x1.8p23f);
    __mmask16 normal = _mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ);
    x = _mm512_max_ps(low, _mm512_min_ps(_mm512_set1_ps(88.0f), x));
    __m512 shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), room), n = _mm512_sub_ps(shifted, room);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 square = _mm512_mul_ps(r, r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.6666520107e-1f), r, _mm512_set1_ps(4.9999993412e-1f));
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(8.3687804514e-3f), r, _mm512_set1_ps(4.1668394216e-2f));
    q = _mm512_fmadd_ps(_mm512_set1_ps(1.3814466978e-3f), square, q);
    __m512 y = _mm512_fmadd_ps(_mm512_fmadd_ps(q, square, p), square, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(normal, _mm512_castps_si512(y), exponent));
}

static inline __m512 slm_tanh_avx512(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 e = slm_exp_avx512(_mm512_add_ps(x, x));
    return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(e, one)));
}

/* Lanes first..stop-1 of v, elsewhere of other. */
static inline __m512 slm_within_avx512(__m512 v, int32_t first, int32_t stop, __m512 other) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 below = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(first), lanes);
    __mmask16 inside = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(stop), lanes);
    return _mm512_mask_blend_ps((__mmask16)(inside & ~below), other, v);
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
#include "template/attend.h"
