#include "float_neon.h"
#include "kernels.h"

void slm_embed_f32_neon(const slm_matrix *w, int64_t row, float scale, float *out) {
    const float *values = (const float *)w->data + row * w->k;
    for (int64_t k = 0; k < w->k; k += 4) slm_store4(out + k, w->k - k, vmulq_n_f32(slm_load4(values + k, w->k - k), scale));
}
