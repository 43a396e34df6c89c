/* Quantising activation rows, shared by pack_q8_avx2 and pack_q4_avx2; results are those of ref/pack_ref.h. */
#ifndef SLM_X86_PACK_AVX2_H
#define SLM_X86_PACK_AVX2_H

#include "float_avx2.h"
#include "rows.h"

/* Largest |x|; compared as integers, so that a NaN wins. */
static inline float slm_magnitude_avx2(const float *x, int64_t n) {
    __m256i peak = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 8) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(x + i));
        peak = _mm256_max_epi32(peak, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(peak), _mm256_extracti128_si256(peak, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

static inline __m256i slm_round8(const float *x, __m256 inverse) {
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
    v = _mm256_max_ps(v, _mm256_set1_ps(-127.0f)); /* the second operand for NaN */
    return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(127.0f)));
}

/* 32 values as bytes, in order. */
static inline __m256i slm_round32(const float *x, __m256 inverse) {
    __m256i low = _mm256_packs_epi32(slm_round8(x, inverse), slm_round8(x + 8, inverse));
    __m256i high = _mm256_packs_epi32(slm_round8(x + 16, inverse), slm_round8(x + 24, inverse));
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline int32_t slm_sum_bytes(__m256i pairs) {
    __m256i v = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* The order in which 32 values are stored. */
typedef __m256i slm_order_fn(__m256i values);

static inline __attribute__((always_inline)) void slm_pack_avx2(const float *x, int64_t k, int32_t group, int32_t zero_point,
                                                                slm_order_fn *order, void *out) {
    int64_t groups = slm_groups(k, group);
    int8_t *values = out;
    float *scales = (float *)(values + groups * group);
    int32_t *corrections = (int32_t *)(scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        const float *from = x + g * group;
        float padded[128];
        if (k - g * group < group) {
            memset(padded, 0, sizeof padded);
            from = memcpy(padded, from, (size_t)(k - g * group) * sizeof *from);
        }
        float peak = slm_magnitude_avx2(from, group);
        __m256 inverse = _mm256_set1_ps(peak >= SLM_PACK_TINY ? 127.0f / peak : 0.0f);
        __m256i pairs = _mm256_setzero_si256();
        for (int64_t i = 0; i < group; i += 32) {
            __m256i v = slm_round32(from + i, inverse);
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_set1_epi8(1), v));
            _mm256_storeu_si256((__m256i *)(values + g * group + i), order(v));
        }
        scales[g] = peak < SLM_PACK_TINY ? 0.0f : peak / 127.0f;
        corrections[g] = -zero_point * slm_sum_bytes(pairs);
    }
}

#endif
