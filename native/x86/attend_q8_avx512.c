#include "attend_avx512.h"
#include "attend_rounding.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__)
#error "attend_q8_avx512.c needs AVX-512 BW and VNNI"
#endif

enum { TILE_HEADS = 8, TILE_PANELS = 2 };

#define PEAK(x, n) peak_of(x, n)
#define ROUND(x, inverse, limit, out) round16(x, inverse, out)

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

/* The sum with 1.5 * 2^23 has the integer in its low bits. It is within the limit, unless the peak is infinite or NaN, as then is all. */
INLINE void round16(const float *x, float inverse, int16_t *out) {
    __m512 v = _mm512_fmadd_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse), _mm512_set1_ps(0x1.8p23f));
    _mm256_storeu_si256((__m256i *)(void *)out, _mm512_cvtepi32_epi16(_mm512_castps_si512(v)));
}

INLINE __m512i slice_of(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

INLINE __m512i every_pair(const int16_t *x) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return _mm512_set1_epi32(pair);
}

INLINE void add_products(__m512i *sum, __m512i a, __m512i b) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc copies all sums at every step */
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
#else
    *sum = _mm512_dpwssd_epi32(*sum, a, b);
#endif
}

/* Two panels share the loads of x, which are as many as the core can do beside the products of one. A lone panel is its own second. */
INLINE void dot_slices(const slm_panel_call *c, int heads, __m512 (*out)[2 * BYTE_VECTORS]) {
    const int8_t *one = c->panel, *two = c->panel + (c->panels < TILE_PANELS ? 0 : c->panel_bytes);
    __m512i first[TILE_HEADS], second[TILE_HEADS];
    for (int h = 0; h < heads; h++) first[h] = second[h] = _mm512_setzero_si512();
    for (int64_t i = 0; i < c->slices; i++) {
        __m512i a = slice_of(one + 32 * i), b = slice_of(two + 32 * i);
        UNROLL(8)
        for (int h = 0; h < heads; h++) {
            __m512i times = every_pair(c->x + h * c->stride + 2 * i);
            add_products(first + h, a, times);
            add_products(second + h, b, times);
        }
        __builtin_prefetch(c->ahead + c->ahead_step * i, 0, 2); /* into the second-level cache: the first has the panels and these rows */
    }
    for (int h = 0; h < heads; h++) {
        out[h][0] = _mm512_cvtepi32_ps(first[h]);
        out[h][1] = _mm512_cvtepi32_ps(second[h]);
    }
}

#include "template/attend_q8.h"

void slm_attend_q8_avx512(const slm_attend *a) { attend(a, score, gather); }
