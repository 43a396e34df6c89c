/* Embedding rows of blockwise weights, shared by q8 and q4. */
#ifndef SLM_ARM_EMBED_NEON_H
#define SLM_ARM_EMBED_NEON_H

#include "float_neon.h"
#include "kernels.h"

/* Stores the first n of 8 values: q, times the group's scale, times scale. */
static inline void slm_embed8(int16x8_t q, float group_scale, float scale, float *out, int64_t n) {
    float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), high = vcvtq_f32_s32(vmovl_high_s16(q));
    slm_store4(out, n, vmulq_n_f32(vmulq_n_f32(low, group_scale), scale));
    if (n > 4) slm_store4(out + 4, n - 4, vmulq_n_f32(vmulq_n_f32(high, group_scale), scale));
}

#endif
