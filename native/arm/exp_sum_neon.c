#include "float_neon.h"
#include "kernels.h"
#include "math_neon.h"

float slm_exp_sum_neon(const float *x, int64_t n, float top) {
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    const float32x4_t t = vdupq_n_f32(top);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 4; j++) s[j] = vaddq_f32(s[j], slm_exp_neon(vsubq_f32(vld1q_f32(x + i + 4 * j), t)));
    float sum = vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
    for (; i < n; i++) sum += vgetq_lane_f32(slm_exp_neon(vdupq_n_f32(x[i] - top)), 0);
    return sum;
}
