/* Quantising activation rows, shared by pack_q8_neon and pack_q4_neon; results are those of ref/pack_ref.h. */
#ifndef SLM_ARM_PACK_NEON_H
#define SLM_ARM_PACK_NEON_H

#include "float_neon.h"
#include "rows.h"

/* Largest |x|; compared as integers, so that a NaN wins. */
static inline float slm_peak_neon(const float *x, int64_t n) {
    uint32x4_t peak = vdupq_n_u32(0);
    for (int64_t i = 0; i < n; i += 4)
        peak = vmaxq_u32(peak, vbicq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x80000000)));
    uint32_t bits = vmaxvq_u32(peak);
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline int16x8_t slm_round4(const float *x, float inverse) {
    float32x4_t v = vmaxnmq_f32(vmulq_n_f32(vld1q_f32(x), inverse), vdupq_n_f32(-127.0f)); /* the number where one is NaN */
    return vreinterpretq_s16_s32(vcvtnq_s32_f32(vminq_f32(v, vdupq_n_f32(127.0f))));
}

/* 16 values as bytes, in order. */
static inline int8x16_t slm_round16(const float *x, float inverse) {
    int16x8_t low = vuzp1q_s16(slm_round4(x, inverse), slm_round4(x + 4, inverse));
    int16x8_t high = vuzp1q_s16(slm_round4(x + 8, inverse), slm_round4(x + 12, inverse));
    return vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high));
}

/* The order in which 32 values are stored. */
typedef int8x16x2_t slm_order_fn(int8x16_t low, int8x16_t high);

static inline __attribute__((always_inline)) void slm_pack_neon(const float *x, int64_t k, int32_t group, int32_t zero_point,
                                                                slm_order_fn *order, void *out) {
    int64_t groups = slm_groups(k, group);
    int8_t *values = out;
    float *scales = (float *)(values + groups * group);
    int32_t *corrections = (int32_t *)(scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        const float *from = x + g * group;
        float padded[128] = {0};
        if (k - g * group < group) from = memcpy(padded, from, (size_t)(k - g * group) * sizeof *from);
        float peak = slm_peak_neon(from, group);
        float inverse = peak >= SLM_PACK_TINY ? 127.0f / peak : 0.0f;
        int16x8_t sums = vdupq_n_s16(0);
        for (int64_t i = 0; i < group; i += 32) {
            int8x16_t low = slm_round16(from + i, inverse), high = slm_round16(from + i + 16, inverse);
            sums = vpadalq_s8(vpadalq_s8(sums, low), high);
            int8x16x2_t v = order(low, high);
            vst1q_s8(values + g * group + i, v.val[0]);
            vst1q_s8(values + g * group + i + 16, v.val[1]);
        }
        scales[g] = peak < SLM_PACK_TINY ? 0.0f : peak / 127.0f;
        corrections[g] = -zero_point * vaddlvq_s16(sums);
    }
}

#endif
