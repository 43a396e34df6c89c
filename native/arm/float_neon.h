/* Vectors of 4 floats, whole or in part. Baseline NEON: every 64-bit core. */
#ifndef SLM_ARM_FLOAT_NEON_H
#define SLM_ARM_FLOAT_NEON_H

#ifndef __ARM_NEON
#error "float_neon.h needs NEON"
#endif

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

/* The first n of 4 values, the rest 0. */
static inline float32x4_t slm_load4(const float *p, int64_t n) {
    if (n >= 4) return vld1q_f32(p);
    float part[4] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vld1q_f32(part);
}

static inline void slm_store4(float *p, int64_t n, float32x4_t v) {
    if (n >= 4) {
        vst1q_f32(p, v);
        return;
    }
    float part[4];
    vst1q_f32(part, v);
    memcpy(p, part, (size_t)n * sizeof *p);
}

static inline float32x4_t slm_load_half4(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

static inline float32x4_t slm_load_half4_part(const uint16_t *p, int64_t n) {
    uint16_t part[4] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return slm_load_half4(part);
}

/* The sums of four vectors. */
static inline float32x4_t slm_sum4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

#endif
