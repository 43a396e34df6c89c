#include "rows.h"

void slm_embed_q4_ref(const slm_matrix *w, int64_t row, float scale, float *out) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint8_t *q = (const uint8_t *)w->data + row * groups * w->group / 2;
    const uint16_t *scales = w->scales + row * groups;
    for (int64_t k = 0; k < w->k; k++) {
        int nibble = k % 2 ? q[k / 2] >> 4 : q[k / 2] & 15;
        out[k] = (float)(nibble - 8) * slm_half_to_float(scales[k / w->group]) * (w->scale * scale);
    }
}
