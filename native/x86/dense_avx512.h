/* template/dense.h for AVX-512: tiles of 4 outputs by 6 tokens fill 31 of the 32 registers. */
#include "float_avx2.h"

#ifndef __AVX512DQ__
#error "dense_avx512.h needs AVX-512 F and DQ"
#endif

static inline __m512 slm_load16_part(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline __m512 slm_load_half16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline __m512 slm_load_half16_part(const uint16_t *p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}

static inline __m256 slm_fold16(__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

#define VEC __m512
#define LANES 16
#define TOKENS 6
#define ZERO() _mm512_setzero_ps()
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LOAD(p) _mm512_loadu_ps(p)
#define LOAD_PART(p, n) slm_load16_part(p, n)
#define LOAD_HALF(p) slm_load_half16(p)
#define LOAD_HALF_PART(p, n) slm_load_half16_part(p, n)
#define STORE(p, v) _mm512_store_ps(p, v)
#define SUM4(out, a, b, c, d) _mm_storeu_ps(out, slm_sum4(slm_fold16(a), slm_fold16(b), slm_fold16(c), slm_fold16(d)))
#include "template/dense.h"
