#include "float_neon.h"
#include "kernels.h"

/* n (1 to 4) pairs. */
static inline void rotate(float *low, float *high, const float *cosine, const float *sine, int64_t n) {
    float32x4_t a = slm_load4(low, n), b = slm_load4(high, n), c = slm_load4(cosine, n), s = slm_load4(sine, n);
    slm_store4(low, n, vfmsq_f32(vmulq_f32(a, c), b, s));
    slm_store4(high, n, vfmaq_f32(vmulq_f32(a, s), b, c));
}

void slm_rope_neon(float *x, const float *cosine, const float *sine, int64_t half) {
    int64_t i = 0;
    for (; i + 4 <= half; i += 4) rotate(x + i, x + half + i, cosine + i, sine + i, 4);
    if (i < half) rotate(x + i, x + half + i, cosine + i, sine + i, half - i);
}
