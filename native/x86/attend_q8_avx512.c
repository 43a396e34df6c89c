#include "attend_avx512.h"

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__)
#error "attend_q8_avx512.c needs AVX-512 BW and VNNI"
#endif

enum { TILE_HEADS = 8 };

#define PEAK(x, n) peak_of(x, n)
#define ROUND(x, inverse, limit, out) round16(x, inverse, limit, out)

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

INLINE void round16(const float *x, float inverse, float limit, int16_t *out) {
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse));
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-limit)), _mm512_set1_ps(limit)); /* NaN: -limit */
    _mm256_storeu_si256((__m256i *)(void *)out, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
}

INLINE __m512i slice_of(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

/* Adds the products of 16-bit neighbours with the two at x, in 16 lanes. */
INLINE void add_products(__m512i *sum, __m512i a, const int16_t *x) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc copies all sums at every step */
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(a), "m"(*(const int16_t(*)[2])x));
#else
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    *sum = _mm512_dpwssd_epi32(*sum, a, _mm512_set1_epi32(pair));
#endif
}

/* Two slices at a time, with sums of their own: each waits for the one before it. There is an even number. */
INLINE void dot_slices(const int8_t *panel, int64_t slices, const int16_t *x, int64_t stride, int heads, const char *ahead,
                       __m512 (*out)[BYTE_VECTORS]) {
    __m512i even[TILE_HEADS], odd[TILE_HEADS];
    for (int h = 0; h < heads; h++) even[h] = odd[h] = _mm512_setzero_si512();
    for (int64_t i = 0; i < slices; i += 2) {
        __m512i a = slice_of(panel + 32 * i), b = slice_of(panel + 32 * i + 32);
        UNROLL(8)
        for (int h = 0; h < heads; h++) {
            add_products(even + h, a, x + h * stride + 2 * i);
            add_products(odd + h, b, x + h * stride + 2 * i + 2);
        }
        __builtin_prefetch(ahead + 32 * i, 0, 2); /* into the second-level cache: the first has the panel and these rows */
    }
    for (int h = 0; h < heads; h++) out[h][0] = _mm512_cvtepi32_ps(_mm512_add_epi32(even[h], odd[h]));
}

#include "template/attend_q8.h"

void slm_attend_q8_avx512(const slm_attend *a) { attend(a, score, gather); }
