#include "float_neon.h"
#include "kernels.h"

void slm_rope_neon(float *x, const float *cosine, const float *sine, int64_t half) {
    for (int64_t i = 0; i < half; i += 4) {
        int64_t n = half - i;
        float32x4_t low = slm_load4(x + i, n), high = slm_load4(x + half + i, n);
        float32x4_t c = slm_load4(cosine + i, n), s = slm_load4(sine + i, n);
        slm_store4(x + i, n, vfmsq_f32(vmulq_f32(low, c), high, s));
        slm_store4(x + half + i, n, vfmaq_f32(vmulq_f32(low, s), high, c));
    }
}
