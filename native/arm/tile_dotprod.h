/* The prefill tile of the dot-product instructions: 4 tokens by 8 outputs, sums and results in registers.
 * A strip is [inputs / 4][8 outputs][4 inputs]: one instruction multiplies four inputs of four outputs with those of one token. */
#ifndef SLM_ARM_TILE_DOTPROD_H
#define SLM_ARM_TILE_DOTPROD_H

#ifndef __ARM_FEATURE_DOTPROD
#error "tile_dotprod.h needs the dot-product instructions"
#endif

#include "panel.h"

/* 16 inputs of 4 rows to [4 quads of inputs][4 rows][4 inputs], SLM_STRIP * 4 bytes apart. */
static inline void slm_transpose4(const int8x16_t *v, int8_t *strip) {
    int32x4_t a = vreinterpretq_s32_s8(v[0]), b = vreinterpretq_s32_s8(v[1]);
    int32x4_t c = vreinterpretq_s32_s8(v[2]), d = vreinterpretq_s32_s8(v[3]);
    int64x2_t ab0 = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), ab1 = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    int64x2_t cd0 = vreinterpretq_s64_s32(vtrn1q_s32(c, d)), cd1 = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    vst1q_s8(strip, vreinterpretq_s8_s64(vtrn1q_s64(ab0, cd0)));
    vst1q_s8(strip + SLM_STRIP * 4, vreinterpretq_s8_s64(vtrn1q_s64(ab1, cd1)));
    vst1q_s8(strip + SLM_STRIP * 8, vreinterpretq_s8_s64(vtrn2q_s64(ab0, cd0)));
    vst1q_s8(strip + SLM_STRIP * 12, vreinterpretq_s8_s64(vtrn2q_s64(ab1, cd1)));
}

static inline void slm_arrange_dotprod(const int8x16_t *v, int8_t *strip) {
    slm_transpose4(v, strip);
    slm_transpose4(v + 4, strip + 16);
}

/* Inputs k + 4 * lane.. of the strip at `from`, with those of every token; the lane must be a literal. */
#define SLM_DOT_LANE(lane)                                                                    \
    do {                                                                                      \
        int8x16_t w0 = vld1q_s8(from + lane * 32), w1 = vld1q_s8(from + lane * 32 + 16);      \
        for (int r = 0; r < rows; r++) {                                                      \
            sums[r][0] = vdotq_laneq_s32(sums[r][0], w0, values[r], lane);                    \
            sums[r][1] = vdotq_laneq_s32(sums[r][1], w1, values[r], lane);                    \
        }                                                                                     \
    } while (0)

SLM_INLINE void slm_tile_dotprod(const int8_t *strip, const float *scales, const slm_act_row *a, int rows, int64_t group, int64_t groups,
                                 float *tile) {
    float32x4_t acc[SLM_TILE_TOKENS][2];
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = vdupq_n_f32(0);
    for (int64_t g = 0; g < groups; g++) {
        int32x4_t sums[SLM_TILE_TOKENS][2];
        for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = vdupq_n_s32(0);
        for (int64_t k = 0; k < group; k += 16) {
            const int8_t *from = strip + (g * group + k) * SLM_STRIP;
            int8x16_t values[SLM_TILE_TOKENS];
            for (int r = 0; r < rows; r++) values[r] = vld1q_s8(a[r].values + g * group + k);
            SLM_DOT_LANE(0);
            SLM_DOT_LANE(1);
            SLM_DOT_LANE(2);
            SLM_DOT_LANE(3);
        }
        float32x4_t s0 = vld1q_f32(scales + g * SLM_STRIP), s1 = vld1q_f32(scales + g * SLM_STRIP + 4);
        for (int r = 0; r < rows; r++) {
            acc[r][0] = vaddq_f32(acc[r][0], vmulq_f32(vcvtq_f32_s32(sums[r][0]), vmulq_n_f32(s0, a[r].scales[g])));
            acc[r][1] = vaddq_f32(acc[r][1], vmulq_f32(vcvtq_f32_s32(sums[r][1]), vmulq_n_f32(s1, a[r].scales[g])));
        }
    }
    for (int r = 0; r < rows; r++) {
        vst1q_f32(tile + r * SLM_STRIP, acc[r][0]);
        vst1q_f32(tile + r * SLM_STRIP + 4, acc[r][1]);
    }
}

#endif
