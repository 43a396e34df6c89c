/* The prefill tile of the matrix-multiply instructions: 4 tokens by 8 outputs, in blocks of 2 by 2 that one instruction gives eight
 * inputs. A strip is [inputs / 8][4 pairs of outputs][2 outputs][8 inputs]. */
#ifndef SLM_ARM_TILE_I8MM_H
#define SLM_ARM_TILE_I8MM_H

#ifndef __ARM_FEATURE_MATMUL_INT8
#error "tile_i8mm.h needs the int8 matrix-multiply instructions"
#endif

#include "panel.h"

enum { SLM_PAIRS = SLM_STRIP / 2, SLM_TOKEN_PAIRS = SLM_TILE_TOKENS / 2 };

static inline int8x16_t slm_low_halves(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

static inline int8x16_t slm_high_halves(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

static inline void slm_arrange_i8mm(const int8x16_t *v, int8_t *strip) {
    for (int p = 0; p < SLM_PAIRS; p++) {
        vst1q_s8(strip + p * 16, slm_low_halves(v[2 * p], v[2 * p + 1]));
        vst1q_s8(strip + SLM_STRIP * 8 + p * 16, slm_high_halves(v[2 * p], v[2 * p + 1]));
    }
}

/* (first, first, second, second). */
static inline float32x4_t slm_each_twice(const float *first, const float *second) {
    return vcombine_f32(vld1_dup_f32(first), vld1_dup_f32(second));
}

/* Blocks (t, p) of token pair t and output pair p: (token 0, output 0), (0, 1), (1, 0), (1, 1). A lone last token stands for both. */
SLM_INLINE void slm_tile_i8mm(const int8_t *strip, const float *scales, const slm_act_row *a, int rows, int64_t group, int64_t groups,
                              float *tile) {
    float32x4_t acc[SLM_TOKEN_PAIRS][SLM_PAIRS];
    int pairs = (rows + 1) / 2;
    slm_act_row first[SLM_TOKEN_PAIRS], second[SLM_TOKEN_PAIRS];
    for (int t = 0; t < pairs; t++) {
        first[t] = a[2 * t];
        second[t] = a[2 * t + 1 < rows ? 2 * t + 1 : 2 * t];
        for (int p = 0; p < SLM_PAIRS; p++) acc[t][p] = vdupq_n_f32(0);
    }
    for (int64_t g = 0; g < groups; g++) {
        int32x4_t sums[SLM_TOKEN_PAIRS][SLM_PAIRS];
        for (int t = 0; t < pairs; t++)
            for (int p = 0; p < SLM_PAIRS; p++) sums[t][p] = vdupq_n_s32(0);
        for (int64_t k = 0; k < group; k += 16) {
            const int8_t *from = strip + (g * group + k) * SLM_STRIP;
            int8x16_t low[SLM_TOKEN_PAIRS], high[SLM_TOKEN_PAIRS];
            for (int t = 0; t < pairs; t++) {
                int8x16_t v = vld1q_s8(first[t].values + g * group + k), u = vld1q_s8(second[t].values + g * group + k);
                low[t] = slm_low_halves(v, u);
                high[t] = slm_high_halves(v, u);
            }
            for (int p = 0; p < SLM_PAIRS; p++) {
                int8x16_t w = vld1q_s8(from + p * 16);
                for (int t = 0; t < pairs; t++) sums[t][p] = vmmlaq_s32(sums[t][p], low[t], w);
            }
            for (int p = 0; p < SLM_PAIRS; p++) {
                int8x16_t w = vld1q_s8(from + SLM_STRIP * 8 + p * 16);
                for (int t = 0; t < pairs; t++) sums[t][p] = vmmlaq_s32(sums[t][p], high[t], w);
            }
        }
        for (int t = 0; t < pairs; t++) {
            float32x4_t token_scales = slm_each_twice(first[t].scales + g, second[t].scales + g);
            for (int p = 0; p < SLM_PAIRS; p++) {
                float32x2_t s = vld1_f32(scales + g * SLM_STRIP + 2 * p);
                float32x4_t scale = vmulq_f32(vcombine_f32(s, s), token_scales);
                acc[t][p] = vaddq_f32(acc[t][p], vmulq_f32(vcvtq_f32_s32(sums[t][p]), scale));
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < SLM_PAIRS; p++)
            vst1_f32(tile + r * SLM_STRIP + 2 * p, r % 2 ? vget_high_f32(acc[r / 2][p]) : vget_low_f32(acc[r / 2][p]));
}

#endif
