#include <math.h>

#include "float_neon.h"
#include "kernels.h"

static float sum_of_squares(const float *x, int64_t n) {
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 4; j++) {
            float32x4_t v = vld1q_f32(x + i + 4 * j);
            s[j] = vfmaq_f32(s[j], v, v);
        }
    for (; i < n; i += 4) {
        float32x4_t v = slm_load4(x + i, n - i);
        s[0] = vfmaq_f32(s[0], v, v);
    }
    return vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
}

/* n (1 to 4) values. */
static inline void scale(const float *x, const float *weight, float inverse, float *out, int accumulate, int64_t n) {
    float32x4_t y = vmulq_f32(vmulq_n_f32(slm_load4(x, n), inverse), slm_load4(weight, n));
    slm_store4(out, n, accumulate ? vaddq_f32(slm_load4(out, n), y) : y);
}

void slm_norm_neon(const float *x, const float *weight, float eps, int64_t n, float *out, int accumulate) {
    float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) scale(x + i, weight + i, inverse, out + i, accumulate, 4);
    if (i < n) scale(x + i, weight + i, inverse, out + i, accumulate, n - i);
}
