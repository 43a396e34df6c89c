/* AVX-512 with the instructions of AVX2, to test kernels on CPUs without it: SIMDe (Debian's libsimde-dev), and below what that lacks.
 *
 * A build with EDGESLM_SIMDE=1 finds this file before the compiler's. An intrinsic that neither knows does not compile ("target
 * specific option mismatch"): add it here. */
#ifndef SLM_SIMDE_IMMINTRIN_H
#define SLM_SIMDE_IMMINTRIN_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <stdint.h>
#include <string.h>

/* What the kernels look for; SIMDe has read the compiler's own, and looks no more. */
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1
#define __AVX512VNNI__ 1
#define __AVXVNNI__ 1

#define SIMDE_ADD static inline __attribute__((always_inline))

typedef union simde_512 {
    __m512 ps;
    __m512i si;
    __m256 ps2[2];
    __m256i si2[2];
    __m128i si4[4];
    float f32[16];
} simde_512;

/* As the processor, and unlike SIMDe: an address that is not aligned faults. */
SIMDE_ADD void simde_aligned(const void *p) {
    if ((uintptr_t)p % 64) __builtin_trap();
}
SIMDE_ADD __m512 simde_load_ps(const void *p) { return simde_aligned(p), simde_mm512_loadu_ps(p); }
SIMDE_ADD __m512i simde_load_si512(const void *p) { return simde_aligned(p), simde_mm512_loadu_si512(p); }
SIMDE_ADD void simde_store_ps(void *p, __m512 v) { simde_aligned(p), simde_mm512_storeu_ps(p, v); }
SIMDE_ADD void simde_store_si512(void *p, __m512i v) { simde_aligned(p), simde_mm512_storeu_si512(p, v); }
#undef _mm512_load_ps
#undef _mm512_load_si512
#undef _mm512_load_epi32
#undef _mm512_store_ps
#undef _mm512_store_si512
#undef _mm512_store_epi32
#define _mm512_load_ps simde_load_ps
#define _mm512_load_si512 simde_load_si512
#define _mm512_load_epi32 simde_load_si512
#define _mm512_store_ps simde_store_ps
#define _mm512_store_si512 simde_store_si512
#define _mm512_store_epi32 simde_store_si512

/* Masked loads and stores: what the mask leaves out is not touched. */
#define SIMDE_MASKED(name, vector, lane, mask)                                                                      \
    SIMDE_ADD vector simde_maskz_load_##name(mask k, const void *p) {                                               \
        union { vector v; lane lanes[sizeof(vector) / sizeof(lane)]; } r = {0};                                     \
        for (unsigned i = 0; i < sizeof(vector) / sizeof(lane); i++)                                                \
            if (k >> i & 1) memcpy(&r.lanes[i], (const char *)p + i * sizeof(lane), sizeof(lane));                  \
        return r.v;                                                                                                 \
    }                                                                                                               \
    SIMDE_ADD void simde_mask_store_##name(void *p, mask k, vector v) {                                             \
        union { vector v; lane lanes[sizeof(vector) / sizeof(lane)]; } r = {v};                                     \
        for (unsigned i = 0; i < sizeof(vector) / sizeof(lane); i++)                                                \
            if (k >> i & 1) memcpy((char *)p + i * sizeof(lane), &r.lanes[i], sizeof(lane));                        \
    }
SIMDE_MASKED(16_ps, __m512, int32_t, __mmask16)
SIMDE_MASKED(8_ps, __m256, int32_t, __mmask8)
SIMDE_MASKED(64_epi8, __m512i, int8_t, uint64_t)
SIMDE_MASKED(32_epi8, __m256i, int8_t, uint32_t)
SIMDE_MASKED(16_epi8, __m128i, int8_t, __mmask16)
SIMDE_MASKED(32_epi16, __m512i, int16_t, uint32_t)
SIMDE_MASKED(16_epi16, __m256i, int16_t, __mmask16)
SIMDE_MASKED(8_epi16, __m128i, int16_t, __mmask8)
SIMDE_MASKED(16_epi32, __m512i, int32_t, __mmask16)
SIMDE_MASKED(8_epi32, __m256i, int32_t, __mmask8)
#define _mm512_maskz_loadu_ps simde_maskz_load_16_ps
#define _mm256_maskz_loadu_ps simde_maskz_load_8_ps
#define _mm512_maskz_loadu_epi8 simde_maskz_load_64_epi8
#define _mm256_maskz_loadu_epi8 simde_maskz_load_32_epi8
#define _mm_maskz_loadu_epi8 simde_maskz_load_16_epi8
#define _mm512_maskz_loadu_epi16 simde_maskz_load_32_epi16
#define _mm256_maskz_loadu_epi16 simde_maskz_load_16_epi16
#define _mm_maskz_loadu_epi16 simde_maskz_load_8_epi16
#define _mm512_maskz_loadu_epi32 simde_maskz_load_16_epi32
#define _mm256_maskz_loadu_epi32 simde_maskz_load_8_epi32
#define _mm512_mask_storeu_ps simde_mask_store_16_ps
#define _mm256_mask_storeu_ps simde_mask_store_8_ps
#define _mm512_mask_storeu_epi8 simde_mask_store_64_epi8
#define _mm256_mask_storeu_epi8 simde_mask_store_32_epi8
#define _mm_mask_storeu_epi8 simde_mask_store_16_epi8
#define _mm512_mask_storeu_epi16 simde_mask_store_32_epi16
#define _mm256_mask_storeu_epi16 simde_mask_store_16_epi16
#define _mm512_mask_storeu_epi32 simde_mask_store_16_epi32

/* Conversions, by the halves that AVX2 converts. */
SIMDE_ADD __m512 simde_ps_of(__m256 low, __m256 high) { return (simde_512){.ps2 = {low, high}}.ps; }
SIMDE_ADD __m512i simde_si_of(__m256i low, __m256i high) { return (simde_512){.si2 = {low, high}}.si; }
SIMDE_ADD __m512 simde_cvtph_ps(__m256i v) {
    return simde_ps_of(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}
SIMDE_ADD __m512 simde_cvtepi32_ps(__m512i v) {
    simde_512 u = {.si = v};
    return simde_ps_of(_mm256_cvtepi32_ps(u.si2[0]), _mm256_cvtepi32_ps(u.si2[1]));
}
SIMDE_ADD __m512i simde_cvtps_epi32(__m512 v) {
    simde_512 u = {.ps = v};
    return simde_si_of(_mm256_cvtps_epi32(u.ps2[0]), _mm256_cvtps_epi32(u.ps2[1]));
}
SIMDE_ADD __m128i simde_cvtepi32_epi8(__m512i v) {
    union { __m512i v; int8_t lanes[64]; } u = {v};
    for (int i = 0; i < 16; i++) u.lanes[i] = u.lanes[4 * i];
    return (simde_512){.si = u.v}.si4[0];
}
#define SIMDE_WIDEN(name, of8)                                                            \
    SIMDE_ADD __m512i simde_##name(__m128i v) {                                           \
        return simde_si_of(of8(v), of8(_mm_unpackhi_epi64(v, v)));                        \
    }
#define SIMDE_WIDEN2(name, of16)                                                          \
    SIMDE_ADD __m512i simde_##name(__m256i v) {                                           \
        return simde_si_of(of16(_mm256_castsi256_si128(v)), of16(_mm256_extracti128_si256(v, 1))); \
    }
SIMDE_WIDEN(cvtepu8_epi32, _mm256_cvtepu8_epi32)
SIMDE_WIDEN(cvtepi8_epi32, _mm256_cvtepi8_epi32)
SIMDE_WIDEN2(cvtepu16_epi32, _mm256_cvtepu16_epi32)
SIMDE_WIDEN2(cvtepi16_epi32, _mm256_cvtepi16_epi32)
SIMDE_WIDEN2(cvtepu8_epi16, _mm256_cvtepu8_epi16)
#define _mm512_cvtph_ps simde_cvtph_ps
#define _mm512_cvtps_ph(v, rounding) \
    _mm256_set_m128i(_mm256_cvtps_ph((simde_512){.ps = (v)}.ps2[1], rounding), _mm256_cvtps_ph((simde_512){.ps = (v)}.ps2[0], rounding))
#define _mm512_cvtepi32_ps simde_cvtepi32_ps
#define _mm512_cvtps_epi32 simde_cvtps_epi32
#define _mm512_cvtepi32_epi8 simde_cvtepi32_epi8
#define _mm512_cvtepu8_epi32 simde_cvtepu8_epi32
#define _mm512_cvtepi8_epi32 simde_cvtepi8_epi32
#define _mm512_cvtepu16_epi32 simde_cvtepu16_epi32
#define _mm512_cvtepi16_epi32 simde_cvtepi16_epi32
#define _mm512_cvtepu8_epi16 simde_cvtepu8_epi16

/* Powers of 2. */
SIMDE_ADD __m512 simde_reduce_down_ps(__m512 v) {
    simde_512 u = {.ps = v};
    for (int i = 0; i < 16; i++) u.f32[i] -= __builtin_floorf(u.f32[i]);
    return u.ps;
}
SIMDE_ADD __m512 simde_scalef_ps(__m512 v, __m512 exponents) {
    simde_512 u = {.ps = v}, e = {.ps = exponents};
    for (int i = 0; i < 16; i++) u.f32[i] *= __builtin_exp2f(__builtin_floorf(e.f32[i]));
    return u.ps;
}
#undef _mm512_reduce_ps
#define _mm512_reduce_ps(v, imm) ((void)sizeof(char[(imm) == _MM_FROUND_TO_NEG_INF ? 1 : -1]), simde_reduce_down_ps(v))
#undef _mm512_scalef_ps
#define _mm512_scalef_ps simde_scalef_ps

/* Parts. */
#undef _mm512_extractf32x8_ps
#undef _mm512_extracti32x8_epi32
#undef _mm512_extracti32x4_epi32
#define _mm512_extractf32x8_ps(v, i) ((simde_512){.ps = (v)}.ps2[i])
#define _mm512_extracti32x8_epi32(v, i) ((simde_512){.si = (v)}.si2[i])
#define _mm512_extracti32x4_epi32(v, i) ((simde_512){.si = (v)}.si4[i])

/* Sums over the lanes, in the order of gcc: halves, quarters, pairs. */
SIMDE_ADD float simde_reduce_add_ps(__m512 v) {
    simde_512 u = {.ps = v};
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++) u.f32[i] += u.f32[i + n];
    return u.f32[0];
}
SIMDE_ADD float simde_reduce_max_ps(__m512 v) {
    simde_512 u = {.ps = v};
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++) u.f32[i] = u.f32[i] > u.f32[i + n] ? u.f32[i] : u.f32[i + n];
    return u.f32[0];
}
SIMDE_ADD int32_t simde_reduce_add_epi32(__m512i v) {
    union { __m512i v; uint32_t lanes[16]; } u = {v};
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += u.lanes[i];
    return (int32_t)sum;
}
SIMDE_ADD int32_t simde_reduce_max_epi32(__m512i v) {
    union { __m512i v; int32_t lanes[16]; } u = {v};
    for (int i = 1; i < 16; i++) u.lanes[0] = u.lanes[0] > u.lanes[i] ? u.lanes[0] : u.lanes[i];
    return u.lanes[0];
}
SIMDE_ADD uint32_t simde_reduce_max_epu32(__m512i v) {
    union { __m512i v; uint32_t lanes[16]; } u = {v};
    for (int i = 1; i < 16; i++) u.lanes[0] = u.lanes[0] > u.lanes[i] ? u.lanes[0] : u.lanes[i];
    return u.lanes[0];
}
#define _mm512_reduce_max_epu32 simde_reduce_max_epu32
#define _mm512_reduce_add_ps simde_reduce_add_ps
#define _mm512_reduce_max_ps simde_reduce_max_ps
#define _mm512_reduce_add_epi32 simde_reduce_add_epi32
#define _mm512_reduce_max_epi32 simde_reduce_max_epi32

/* AVX-VNNI: the same instructions, encoded for CPUs without AVX-512. */
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm_dpbusd_avx_epi32 simde_mm_dpbusd_epi32

#endif
