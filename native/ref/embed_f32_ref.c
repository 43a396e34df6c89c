#include "kernels.h"

void slm_embed_f32_ref(const slm_matrix *w, int64_t row, float scale, float *out) {
    const float *values = (const float *)w->data + row * w->k;
    for (int64_t k = 0; k < w->k; k++) out[k] = values[k] * scale;
}
