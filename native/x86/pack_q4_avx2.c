#include "pack_avx2.h"

static inline __m256i even_then_odd(__m256i values) {
    const __m256i split = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, /* */
                                           0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(values, split), 0xd8);
}

void slm_pack_q4_avx2(const float *x, int64_t k, int32_t group, void *out) { slm_pack_avx2(x, k, group, 8, even_then_odd, out); }
