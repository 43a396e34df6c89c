#include "embed_neon.h"

void slm_embed_q4_neon(const slm_matrix *w, int64_t row, float scale, float *out) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint8_t *q = (const uint8_t *)w->data + row * groups * w->group / 2; /* padded to whole groups: 8 bytes may be read */
    const uint16_t *scales = w->scales + row * groups;
    scale *= w->scale;
    for (int64_t k = 0; k < w->k; k += 16) {
        uint8x8_t bytes = vld1_u8(q + k / 2), low = vand_u8(bytes, vdup_n_u8(15)), high = vshr_n_u8(bytes, 4);
        float group_scale = slm_load_half1(scales + k / w->group);
        int16x8_t first = vreinterpretq_s16_u16(vsubl_u8(vzip1_u8(low, high), vdup_n_u8(8)));
        int16x8_t second = vreinterpretq_s16_u16(vsubl_u8(vzip2_u8(low, high), vdup_n_u8(8)));
        slm_embed8(first, group_scale, scale, out + k, w->k - k);
        if (w->k - k > 8) slm_embed8(second, group_scale, scale, out + k + 8, w->k - k - 8);
    }
}
