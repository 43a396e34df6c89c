#include "attend_avx512.h"
#include "attend_rounding.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "attend_q8_avx512.c needs AVX-512 BW, DQ and VNNI"
#endif

enum { TILE_PANELS = 2, KEY_HEADS = 8, VALUE_HEADS = 7, VALUE_VECTORS = 2, WEIGHTS_AT_ONCE = 32 };

#define MAGNITUDE(x, n) magnitude(x, n)

#define INTS __m512i
#define ZERO_INTS() _mm512_setzero_si512()
#define LOAD_INTS(p) _mm512_loadu_si512(p)
#define SET1_INTS(x) _mm512_set1_epi32(x)
#define ADD_INTS(a, b) _mm512_add_epi32(a, b)
#define SUB_INTS(a, b) _mm512_sub_epi32(a, b)
#define SHIFT_INTS_BY_8(a) _mm512_slli_epi32(a, 8)
#define TO_FLOATS(a) _mm512_cvtepi32_ps(a)

/* By bits, in which NaN is the largest. */
INLINE float magnitude(const float *x, int64_t n) {
    __m512i peak = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16)
        peak = _mm512_max_epi32(peak, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7fffffff)));
    int32_t bits = _mm512_reduce_max_epi32(peak);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The sum of x * inverse and more with 1.5 * 2^23 has the integer in its low bits. It is within the limit, unless the peak is infinite or
 * NaN, as then is all. */
INLINE __m512i rounded(const float *x, float inverse, float more) {
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse), _mm512_set1_ps(0x1.8p23f + more)));
}

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) {
    _mm_storeu_si128((__m128i *)(void *)(out + i), _mm512_cvtepi32_epi8(rounded(x, inverse, 128)));
}

/* 16-bit halves of two vectors in one, then the bytes of quads together, then the quads in order. */
INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) {
    __m512i second = _mm512_slli_epi32(rounded(x + 16, inverse, 0), 16);
    __m512i halves = _mm512_mask_blend_epi16(0xaaaaaaaa, rounded(x, inverse, 0), second);
    const __m128i bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i quads = _mm512_shuffle_epi8(halves, _mm512_broadcast_i32x4(bytes));
    _mm512_storeu_si512(out + 2 * i, _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), quads));
}

INLINE void add_products(__m512i *sum, __m512i u, __m512i s) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc copies all sums at every step */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(u), "v"(s));
#else
    *sum = _mm512_dpbusd_epi32(*sum, u, s);
#endif
}

#include "attend_vnni.h"

void slm_attend_q8_avx512(const slm_attend *a) { attend(a, score, asking_of, gather); }
