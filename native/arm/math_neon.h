/* Elementary functions of 4 floats. Errors are relative to the true value unless said otherwise. */
#ifndef SLM_ARM_MATH_NEON_H
#define SLM_ARM_MATH_NEON_H

#include "float_neon.h"

/* exp(x), within 2e-7; 0 below -87.3, no larger than exp(88); NaN stays NaN.
 * Cephes expf: x = n ln 2 + r, a polynomial in r on [-ln 2 / 2, ln 2 / 2], times 2^n through the exponent bits. */
static inline float32x4_t slm_exp_neon(float32x4_t x) {
    const float32x4_t low = vdupq_n_f32(-87.3f);
    uint32x4_t tiny = vcltq_f32(x, low);
    x = vmaxq_f32(low, vminq_f32(vdupq_n_f32(88.0f), x));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
    r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));
    float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
    p = vfmaq_f32(vdupq_n_f32(1.3981999507e-3f), p, r);
    p = vfmaq_f32(vdupq_n_f32(8.3334519073e-3f), p, r);
    p = vfmaq_f32(vdupq_n_f32(4.1665795894e-2f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.6666665459e-1f), p, r);
    p = vfmaq_f32(vdupq_n_f32(5.0000001201e-1f), p, r);
    p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
    int32x4_t exponent = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    int32x4_t y = vaddq_s32(vreinterpretq_s32_f32(p), exponent);
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_s32(y), tiny));
}

/* tanh(x), within 2e-7 absolute. */
static inline float32x4_t slm_tanh_neon(float32x4_t x) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    float32x4_t e = slm_exp_neon(vaddq_f32(x, x));
    return vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0f), vaddq_f32(e, one)));
}

#endif
