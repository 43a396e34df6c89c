/* Without dot products of bytes: keys' magnitudes are multiplied as unsigned bytes, by queries with their signs; weights are int16. */
#include "attend_avx2.h"
#include "attend_round_avx2.h"
#include "lanes_avx2.h"

enum { TILE_PANELS = 1, KEY_HEADS = 4, VALUE_HEADS = 6, WEIGHTS_AT_ONCE = 16 };

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) {
    __m256i v = round16(x, inverse, SLM_QUERY_LIMIT);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storeu_si128((__m128i *)(void *)(out + i), bytes);
}

INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) {
    _mm256_storeu_si256((__m256i *)(void *)(out + 2 * i), round16(x, inverse, SLM_WEIGHT_LIMIT));
}

/* Pairs stay within 16 bits: 2 * 127 * 127. */
INLINE void add_quads(__m256i *sum, __m256i magnitudes, __m256i keys, __m256i times) {
    __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(times, keys));
    slm_add_int32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void dot_keys(const slm_panel_call *c, int heads, __m256 (*out)[2]) {
    __m256i low[KEY_HEADS], high[KEY_HEADS];
    for (int h = 0; h < heads; h++) low[h] = high[h] = _mm256_setzero_si256();
    for (int64_t turn = 0; turn < c->slices / SLM_RUNS; turn++)
        UNROLL(4)
        for (int64_t s = 0; s < SLM_RUNS; s++) {
            int64_t i = turn * SLM_RUNS + s;
            __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(c->panel + 64 * i));
            __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(c->panel + 64 * i + 32));
            __m256i of_a = _mm256_abs_epi8(a), of_b = _mm256_abs_epi8(b);
            UNROLL(4)
            for (int h = 0; h < heads; h++) {
                __m256i times = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(const void *)(c->x + h * c->stride + 4 * i)));
                add_quads(low + h, of_a, a, times);
                add_quads(high + h, of_b, b, times);
            }
            slm_ask(c->ahead, turn, s);
        }
    for (int h = 0; h < heads; h++) {
        out[h][0] = _mm256_cvtepi32_ps(low[h]);
        out[h][1] = _mm256_cvtepi32_ps(high[h]);
    }
}

/* Four lanes of a slice. */
INLINE __m256i widen(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)); }

INLINE __m256i every_quad(const uint8_t *x) { return _mm256_castpd_si256(_mm256_broadcast_sd((const double *)(const void *)x)); }

/* Half of the panel's lanes, as more sums than of 6 heads fill the registers. Unrolled, or gcc leaves the sums in memory. */
INLINE void dot_half(const slm_panel_call *c, int half, int heads, __m256 (*out)[2]) {
    __m256i low[VALUE_HEADS], high[VALUE_HEADS];
    for (int h = 0; h < heads; h++) low[h] = high[h] = _mm256_setzero_si256();
    for (int64_t turn = 0; turn < c->slices / SLM_RUNS; turn++)
        UNROLL(4)
        for (int64_t s = 0; s < SLM_RUNS; s++) {
            int64_t i = turn * SLM_RUNS + s;
            const int8_t *lanes = c->panel + 64 * i + 32 * half;
            __m256i a = widen(lanes), b = widen(lanes + 16);
            UNROLL(6)
            for (int h = 0; h < heads; h++) {
                __m256i times = every_quad(c->x + h * c->stride + 8 * i);
                slm_add_int32(low + h, _mm256_madd_epi16(a, times));
                slm_add_int32(high + h, _mm256_madd_epi16(b, times));
            }
            if (s % 2 == half) slm_ask(c->ahead, turn, s);
        }
    for (int h = 0; h < heads; h++) {
        __m256i sums = _mm256_hadd_epi32(low[h], high[h]);
        out[h][half] = _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(sums, 0xd8));
    }
}

INLINE void dot_values(const slm_panel_call *c, int heads, __m256 (*out)[2]) {
    dot_half(c, 0, heads, out);
    dot_half(c, 1, heads, out);
}

#include "template/attend_q8.h"

void slm_attend_q8_avx2(const slm_attend *a) { attend(a, score, asking_of, gather); }
