#include "embed_avx2.h"

void slm_embed_q8_avx2(const slm_matrix *w, int64_t row, float scale, float *out) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint8_t *q = (const uint8_t *)w->data + row * groups * w->group; /* padded to whole groups: 8 bytes may be read */
    const uint16_t *scales = w->scales + row * groups;
    scale *= w->scale;
    for (int64_t k = 0; k < w->k; k += 8)
        slm_store8(out + k, w->k - k,
                   slm_embed8(_mm_loadl_epi64((const __m128i *)(q + k)), 128, _cvtsh_ss(scales[k / w->group]), scale));
}
