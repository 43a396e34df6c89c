/* Rounding for the attend_q8 kernels of ARM, behind attend_neon.h. */
#include "attend_rounding.h"
#include "pack_neon.h"

enum { TILE_PANELS = 1, KEY_HEADS = 4, VALUE_HEADS = 4, WEIGHTS_AT_ONCE = 16 };
#define MAGNITUDE(x, n) slm_peak_neon(x, n)

INLINE int16x4_t round4(const float *x, float inverse, float limit) {
    float32x4_t v = vmaxnmq_f32(vmulq_n_f32(vld1q_f32(x), inverse), vdupq_n_f32(-limit)); /* the number where one is NaN */
    return vmovn_s32(vcvtnq_s32_f32(vminq_f32(v, vdupq_n_f32(limit))));
}

INLINE int16x8_t round8(const float *x, float inverse, float limit) {
    return vcombine_s16(round4(x, inverse, limit), round4(x + 4, inverse, limit));
}
