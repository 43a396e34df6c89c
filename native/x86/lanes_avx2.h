/* Eight outputs in the lanes of AVX2 vectors: what blockwise.h needs of the instruction set. */
#ifndef SLM_X86_LANES_AVX2_H
#define SLM_X86_LANES_AVX2_H

#ifndef __AVX2__
#error "lanes_avx2.h needs AVX2"
#endif

#include <immintrin.h>
#include <stdint.h>

enum { SLM_LANES = 8 };
typedef __m256i slm_ints;
typedef __m256 slm_floats;

static inline slm_ints slm_load_ints(const void *p) { return _mm256_load_si256((const __m256i *)p); }
static inline void slm_store_ints(void *p, slm_ints v) { _mm256_store_si256((__m256i *)p, v); }
static inline slm_floats slm_load_floats(const float *p) { return _mm256_load_ps(p); }
static inline void slm_store_floats(float *p, slm_floats v) { _mm256_store_ps(p, v); }
static inline slm_ints slm_every_int(int32_t v) { return _mm256_set1_epi32(v); }
static inline slm_floats slm_every_float(float v) { return _mm256_set1_ps(v); }
static inline slm_floats slm_to_floats(slm_ints v) { return _mm256_cvtepi32_ps(v); }
static inline slm_floats slm_mul(slm_floats a, slm_floats b) { return _mm256_mul_ps(a, b); }
static inline slm_floats slm_add(slm_floats a, slm_floats b) { return _mm256_add_ps(a, b); }

/* 16 bytes at `at` of the rows 0 and 4. */
static inline slm_ints slm_load_quarters(const uint8_t *const *rows, int64_t at) {
    __m128i low = _mm_loadu_si128((const __m128i *)(rows[0] + at));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((const __m128i *)(rows[4] + at)), 1);
}

/* Bytes at .. at + 15 of every row become columns of four: lane r of v[c] holds bytes 4 c .. 4 c + 3 of row r. */
static inline void slm_columns(const uint8_t *const *rows, int64_t at, slm_ints v[4]) {
    slm_ints r0 = slm_load_quarters(rows, at), r1 = slm_load_quarters(rows + 1, at);
    slm_ints r2 = slm_load_quarters(rows + 2, at), r3 = slm_load_quarters(rows + 3, at);
    slm_ints low01 = _mm256_unpacklo_epi32(r0, r1), high01 = _mm256_unpackhi_epi32(r0, r1);
    slm_ints low23 = _mm256_unpacklo_epi32(r2, r3), high23 = _mm256_unpackhi_epi32(r2, r3);
    v[0] = _mm256_unpacklo_epi64(low01, low23);
    v[1] = _mm256_unpackhi_epi64(low01, low23);
    v[2] = _mm256_unpacklo_epi64(high01, high23);
    v[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* Partial sums of four rows: the totals of each row within the low and within the high half of its vector. */
static inline slm_ints slm_sum_rows4(const slm_ints p[4]) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(p[0], p[1]), _mm256_hadd_epi32(p[2], p[3]));
}

/* 16-bit neighbours added, to 32 bits. */
static inline slm_ints slm_sum_pairs(slm_ints v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }

/* For several uses: left to itself, the compiler loads it again for each. */
static inline slm_ints slm_load_once(const void *p) {
    slm_ints v = slm_load_ints(p);
#ifdef __GNUC__
    __asm__("" : "+x"(v));
#endif
    return v;
}

/* sum += v, now: left to itself, the compiler gathers the products of many steps first and runs out of registers. */
#ifdef __GNUC__
static inline void slm_add_int16(slm_ints *sum, slm_ints v) { __asm__ volatile("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(v)); }
static inline void slm_add_int32(slm_ints *sum, slm_ints v) { __asm__ volatile("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(v)); }
#else
static inline void slm_add_int16(slm_ints *sum, slm_ints v) { *sum = _mm256_add_epi16(*sum, v); }
static inline void slm_add_int32(slm_ints *sum, slm_ints v) { *sum = _mm256_add_epi32(*sum, v); }
#endif

static inline slm_ints slm_low_nibbles(slm_ints v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
static inline slm_ints slm_high_nibbles(slm_ints v) { return slm_low_nibbles(_mm256_srli_epi16(v, 4)); }

#endif
