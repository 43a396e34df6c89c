#include "attend_avx2.h"
#include "attend_round_avx2.h"

enum { TILE_PANELS = 1, KEY_HEADS = 5, VALUE_HEADS = 6, VALUE_VECTORS = 1, WEIGHTS_AT_ONCE = 16 };

#define INTS __m256i
#define ZERO_INTS() _mm256_setzero_si256()
#define LOAD_INTS(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define SET1_INTS(x) _mm256_set1_epi32(x)
#define ADD_INTS(a, b) _mm256_add_epi32(a, b)
#define SUB_INTS(a, b) _mm256_sub_epi32(a, b)
#define SHIFT_INTS_BY_8(a) _mm256_slli_epi32(a, 8)
#define TO_FLOATS(a) _mm256_cvtepi32_ps(a)

INLINE void store_bytes(uint8_t *out, __m256i of16) { /* of 16-bit values in 0..255 */
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(of16), _mm256_extracti128_si256(of16, 1));
    _mm_storeu_si128((__m128i *)(void *)out, bytes);
}

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) {
    store_bytes(out + i, _mm256_add_epi16(round16(x, inverse, SLM_QUERY_LIMIT), _mm256_set1_epi16(128)));
}

INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) {
    const __m128i bytes = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    __m256i quads = _mm256_shuffle_epi8(round16(x, inverse, SLM_WEIGHT_LIMIT), _mm256_broadcastsi128_si256(bytes));
    _mm256_storeu_si256((__m256i *)(void *)(out + 2 * i), quads);
}

INLINE void add_products(__m256i *sum, __m256i u, __m256i s) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc keeps copies of the sums in memory */
    __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sum) : "x"(u), "x"(s));
#else
    *sum = _mm256_dpbusd_avx_epi32(*sum, u, s);
#endif
}

#include "attend_vnni.h"

void slm_attend_q8_avxvnni(const slm_attend *a) { attend(a, score, asking_of, gather); }
