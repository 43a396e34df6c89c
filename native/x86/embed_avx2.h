/* Embedding rows of blockwise weights, shared by q8 and q4. */
#ifndef SLM_X86_EMBED_AVX2_H
#define SLM_X86_EMBED_AVX2_H

#include "float_avx2.h"
#include "kernels.h"

/* Bytes 0..7 of q, less zero, times the group's scale, times scale. */
static inline __m256 slm_embed8(__m128i q, int zero, float group_scale, float scale) {
    __m256i v = _mm256_sub_epi32(_mm256_cvtepu8_epi32(q), _mm256_set1_epi32(zero));
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(group_scale)), _mm256_set1_ps(scale));
}

#endif
