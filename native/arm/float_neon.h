/* Vectors of 4 floats, whole or in part. Baseline NEON: every 64-bit core. */
#ifndef SLM_ARM_FLOAT_NEON_H
#define SLM_ARM_FLOAT_NEON_H

#ifndef __ARM_NEON
#error "float_neon.h needs NEON"
#endif

#include <arm_neon.h>
#include <stdint.h>

/* Parts of vectors go lane by lane: a call of memcpy would cost every loop before it its vector registers. */

/* The first n of 4 values, the rest 0. */
static inline float32x4_t slm_load4(const float *p, int64_t n) {
    if (n >= 4) return vld1q_f32(p);
    float32x4_t v = vdupq_n_f32(0);
    if (n > 0) v = vld1q_lane_f32(p, v, 0);
    if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
    if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
    return v;
}

static inline void slm_store4(float *p, int64_t n, float32x4_t v) {
    if (n >= 4) {
        vst1q_f32(p, v);
        return;
    }
    if (n > 0) vst1q_lane_f32(p, v, 0);
    if (n > 1) vst1q_lane_f32(p + 1, v, 1);
    if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}

static inline float32x4_t slm_widen4(uint16x4_t halves) { return vcvt_f32_f16(vreinterpret_f16_u16(halves)); }

static inline float32x4_t slm_load_half4(const uint16_t *p) { return slm_widen4(vld1_u16(p)); }

static inline float slm_load_half1(const uint16_t *p) { return vgetq_lane_f32(slm_widen4(vld1_dup_u16(p)), 0); }

/* The first n (below 4) of 4 values, the rest 0. */
static inline float32x4_t slm_load_half4_part(const uint16_t *p, int64_t n) {
    uint16x4_t v = vdup_n_u16(0);
    if (n > 0) v = vld1_lane_u16(p, v, 0);
    if (n > 1) v = vld1_lane_u16(p + 1, v, 1);
    if (n > 2) v = vld1_lane_u16(p + 2, v, 2);
    return slm_widen4(v);
}

/* The sums of four vectors. */
static inline float32x4_t slm_sum4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

#endif
