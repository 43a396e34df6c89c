/* Vectors of 8 floats, as template/dense.h and the embeds use them. AVX2, FMA, F16C. */
#ifndef SLM_X86_FLOAT_AVX2_H
#define SLM_X86_FLOAT_AVX2_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "float_avx2.h needs AVX2, FMA and F16C"
#endif

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static inline __m256i slm_mask8(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* 8 floats of which n are left: at the end of a row fewer, the others 0. Masked stores are slow: some 20 cycles on AMD. */
static inline __m256 slm_load8(const float *p, int64_t n) {
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, slm_mask8(n));
}

static inline void slm_store8(float *p, int64_t n, __m256 v) {
    if (n >= 8) _mm256_storeu_ps(p, v);
    else if (n > 0) _mm256_maskstore_ps(p, slm_mask8(n), v);
}

static inline __m256 slm_load_half8(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

static inline __m256 slm_load_half8_part(const uint16_t *p, int64_t n) {
    uint16_t part[8] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return slm_load_half8(part);
}

/* The sums of four vectors. */
static inline __m128 slm_sum4(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

#endif
