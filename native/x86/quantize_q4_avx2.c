#include "float_avx2.h"
#include "quantize.h"

static inline __m256 quantize(__m256 w, __m256 step) {
    __m256 v = _mm256_max_ps(_mm256_mul_ps(w, step), _mm256_set1_ps(-8.0f));
    return _mm256_round_ps(_mm256_min_ps(v, _mm256_set1_ps(7.0f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void try_step(const slm_q4_group *g, int group, float step, float *wq_sum, float *qq_sum) {
    __m256 wq = _mm256_setzero_ps(), qq = wq, steps = _mm256_set1_ps(step);
    for (int i = 0; i < group; i += 8) {
        __m256 q = quantize(_mm256_loadu_ps(g->w + i), steps);
        wq = _mm256_add_ps(wq, _mm256_mul_ps(_mm256_loadu_ps(g->vw + i), q)); /* not fused: the sums must equal those of ref */
        qq = _mm256_add_ps(qq, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(g->v + i), q), q));
    }
    __m256 s = _mm256_hadd_ps(wq, qq); /* neighbours first, as NumPy adds its lanes */
    s = _mm256_hadd_ps(s, s);
    __m128 total = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    *wq_sum = _mm_cvtss_f32(total);
    *qq_sum = _mm_cvtss_f32(_mm_movehdup_ps(total));
}

/* 16 values → 8 bytes. */
static inline void store_nibbles(const float *w, __m256 step, uint8_t *out) {
    __m256i low = _mm256_cvtps_epi32(quantize(_mm256_loadu_ps(w), step));
    __m256i high = _mm256_cvtps_epi32(quantize(_mm256_loadu_ps(w + 8), step));
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    bytes = _mm_add_epi8(bytes, _mm_set1_epi8(8));
    __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001)); /* even + 16 * odd */
    _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(pairs, pairs));
}

static inline __attribute__((always_inline)) void search(const float *w, int group, uint8_t *data, float *scale) {
    slm_q4_group g;
    slm_q4_search sums;
    slm_q4_weigh(&g, w, group);
    for (int c = 0; c < SLM_CANDIDATES; c++) try_step(&g, group, slm_q4_step(g.inverse, c), &sums.wq[c], &sums.qq[c]);
    *scale = slm_q4_scale(&sums);
    __m256 step = _mm256_set1_ps(slm_inverse_scale(*scale));
    for (int i = 0; i < group; i += 16) store_nibbles(w + i, step, data + i / 2);
}

/* One body per group size: the group then stays in registers. */
static void quantize_group(const float *w, int group, uint8_t *data, float *scale) {
    if (group == 32) search(w, 32, data, scale);
    else if (group == 64) search(w, 64, data, scale);
    else search(w, 128, data, scale);
}

void slm_quantize_q4_avx2(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    slm_quantize_rows(quantize_group, rows, n, k, group, group / 2, data, scales);
}
