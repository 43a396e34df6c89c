#include "embed_avx2.h"

void slm_embed_q4_avx2(const slm_matrix *w, int64_t row, float scale, float *out) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint8_t *q = (const uint8_t *)w->data + row * groups * w->group / 2; /* padded to whole groups: 8 bytes may be read */
    const uint16_t *scales = w->scales + row * groups;
    scale *= w->scale;
    for (int64_t k = 0; k < w->k; k += 16) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(q + k / 2)), mask = _mm_set1_epi8(15);
        __m128i nibbles = _mm_unpacklo_epi8(_mm_and_si128(bytes, mask), _mm_and_si128(_mm_srli_epi16(bytes, 4), mask));
        float group_scale = _cvtsh_ss(scales[k / w->group]);
        slm_store8(out + k, w->k - k, slm_embed8(nibbles, 8, group_scale, scale));
        slm_store8(out + k + 8, w->k - k - 8, slm_embed8(_mm_srli_si128(nibbles, 8), 8, group_scale, scale));
    }
}
