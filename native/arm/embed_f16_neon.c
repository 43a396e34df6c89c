#include "float_neon.h"
#include "kernels.h"

void slm_embed_f16_neon(const slm_matrix *w, int64_t row, float scale, float *out) {
    const uint16_t *values = (const uint16_t *)w->data + row * w->k;
    int64_t k = 0;
    for (; k + 4 <= w->k; k += 4) vst1q_f32(out + k, vmulq_n_f32(slm_load_half4(values + k), scale));
    if (k < w->k) slm_store4(out + k, w->k - k, vmulq_n_f32(slm_load_half4_part(values + k, w->k - k), scale));
}
