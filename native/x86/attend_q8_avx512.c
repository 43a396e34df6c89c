#include "attend_avx512.h"
#include "attend_rounding.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__)
#error "attend_q8_avx512.c needs AVX-512 BW and VNNI"
#endif

enum { TILE_PANELS = 2, KEY_HEADS = 8, VALUE_HEADS = 8 };

#define PEAK(x, n) peak_of(x, n)
#define ASK(p) __builtin_prefetch(p, 0, 2) /* into the second-level cache: the first has the panels and these rows */

#define INTS __m512i
#define ZERO_INTS() _mm512_setzero_si512()
#define LOAD_INTS(p) _mm512_loadu_si512(p)
#define SET1_INTS(x) _mm512_set1_epi32(x)
#define ADD_INTS(a, b) _mm512_add_epi32(a, b)
#define SUB_INTS(a, b) _mm512_sub_epi32(a, b)
#define SHIFT_INTS_BY_8(a) _mm512_slli_epi32(a, 8)
#define TO_FLOATS(a) _mm512_cvtepi32_ps(a)

/* By bits, in which NaN is the largest. */
INLINE float peak_of(const float *x, int64_t n) {
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

INLINE void store_bytes(uint8_t *out, __m512i v) { _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(v)); }

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) { store_bytes(out + i, rounded(x, inverse, 128)); }

INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) {
    __m512i v = rounded(x, inverse, 0);
    store_bytes(out + i, v);
    store_bytes(out + SLM_KV_BLOCK + i, _mm512_srli_epi32(v, 8));
}

INLINE void add_products(__m512i *sum, __m512i u, __m512i s) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc copies all sums at every step */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(u), "v"(s));
#else
    *sum = _mm512_dpbusd_epi32(*sum, u, s);
#endif
}

#include "attend_vnni.h"

void slm_attend_q8_avx512(const slm_attend *a) { attend(a, score, gather); }
