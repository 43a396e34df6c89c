#include "embed_neon.h"

void slm_embed_q8_neon(const slm_matrix *w, int64_t row, float scale, float *out) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint8_t *q = (const uint8_t *)w->data + row * groups * w->group; /* padded to whole groups: 8 bytes may be read */
    const uint16_t *scales = w->scales + row * groups;
    scale *= w->scale;
    for (int64_t k = 0; k < w->k; k += 8) {
        int16x8_t v = vreinterpretq_s16_u16(vsubl_u8(vld1_u8(q + k), vdup_n_u8(128)));
        slm_embed8(v, slm_load_half1(scales + k / w->group), scale, out + k, w->k - k);
    }
}
