#include "rows.h"

void slm_embed_f16_ref(const slm_matrix *w, int64_t row, float scale, float *out) {
    const uint16_t *values = (const uint16_t *)w->data + row * w->k;
    for (int64_t k = 0; k < w->k; k++) out[k] = slm_half_to_float(values[k]) * scale;
}
