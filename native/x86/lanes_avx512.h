/* Sixteen outputs in the lanes of AVX-512 vectors: what columns.h needs of the instruction set. */
#ifndef SLM_X86_LANES_AVX512_H
#define SLM_X86_LANES_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "lanes_avx512.h needs AVX-512 BW, DQ and VNNI"
#endif

enum { SLM_LANES = 16 };
typedef __m512i slm_ints;
typedef __m512 slm_floats;

static inline slm_ints slm_load_ints(const void *p) { return _mm512_load_si512(p); }
static inline slm_ints slm_load_once(const void *p) { return slm_load_ints(p); }
static inline void slm_store_ints(void *p, slm_ints v) { _mm512_store_si512(p, v); }
static inline slm_floats slm_load_floats(const float *p) { return _mm512_load_ps(p); }
static inline void slm_store_floats(float *p, slm_floats v) { _mm512_store_ps(p, v); }
static inline slm_ints slm_every_int(int32_t v) { return _mm512_set1_epi32(v); }
static inline slm_floats slm_every_float(float v) { return _mm512_set1_ps(v); }
static inline slm_floats slm_to_floats(slm_ints v) { return _mm512_cvtepi32_ps(v); }
static inline slm_floats slm_mul(slm_floats a, slm_floats b) { return _mm512_mul_ps(a, b); }
static inline slm_floats slm_add(slm_floats a, slm_floats b) { return _mm512_add_ps(a, b); }

/* 16 bytes at `at` of the rows 0, 4, 8 and 12. */
static inline slm_ints slm_load_quarters(const uint8_t *const *rows, int64_t at) {
    slm_ints v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(rows[0] + at)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(rows[4] + at)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(rows[8] + at)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(rows[12] + at)), 3);
}

/* Bytes at .. at + 15 of every row become columns of four: lane r of v[c] holds bytes 4 c .. 4 c + 3 of row r. */
static inline void slm_columns(const uint8_t *const *rows, int64_t at, slm_ints v[4]) {
    slm_ints r0 = slm_load_quarters(rows, at), r1 = slm_load_quarters(rows + 1, at);
    slm_ints r2 = slm_load_quarters(rows + 2, at), r3 = slm_load_quarters(rows + 3, at);
    slm_ints low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
    slm_ints low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
    v[0] = _mm512_unpacklo_epi64(low01, low23);
    v[1] = _mm512_unpackhi_epi64(low01, low23);
    v[2] = _mm512_unpacklo_epi64(high01, high23);
    v[3] = _mm512_unpackhi_epi64(high01, high23);
}

static inline slm_ints slm_low_nibbles(slm_ints v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
static inline slm_ints slm_high_nibbles(slm_ints v) { return slm_low_nibbles(_mm512_srli_epi16(v, 4)); }

#endif
