/* Dot products take bytes: a query is one, a weight is 256 * high + low, both int8, whose sums are added at the end. The four high bytes of a
 * quad lie before its four low ones. */
#include "attend_neon.h"

#include "attend_round_neon.h"

#ifndef __ARM_FEATURE_DOTPROD
#error "attend_q8_dotprod.c needs dot products"
#endif

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) {
    int8x8_t low = vmovn_s16(round8(x, inverse, SLM_QUERY_LIMIT)), high = vmovn_s16(round8(x + 8, inverse, SLM_QUERY_LIMIT));
    vst1q_s8((int8_t *)out + i, vcombine_s8(low, high));
}

INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) {
    for (int half = 0; half < 2; half++) {
        int16x8_t v = round8(x + 8 * half, inverse, SLM_WEIGHT_LIMIT), high = vshrq_n_s16(vaddq_s16(v, vdupq_n_s16(128)), 8);
        int32x2_t highs = vreinterpret_s32_s8(vmovn_s16(high)), lows = vreinterpret_s32_s8(vmovn_s16(v)); /* modulo 256 */
        vst1q_u8(out + 2 * i + 16 * half, vreinterpretq_u8_s32(vcombine_s32(vzip1_s32(highs, lows), vzip2_s32(highs, lows))));
    }
}

/* Four quads at a time; there is a multiple of four. */
INLINE void dot_keys(const slm_panel_call *c, int heads, VEC (*out)[BYTE_VECTORS]) {
    const int8_t *panel = c->panel;
    int32x4_t sums[KEY_HEADS][2];
    for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = vdupq_n_s32(0);
    for (int64_t i = 0; i < c->slices; i += 4, panel += 128) {
        int8x16_t a[8];
        for (int v = 0; v < 8; v++) a[v] = vld1q_s8(panel + 16 * v);
        for (int64_t k = 0; k < 2; k++) slm_ask(c->ahead, i / 8, i / 2 % SLM_RUNS + k);
        for (int h = 0; h < heads; h++) {
            int8x16_t times = vreinterpretq_s8_u8(vld1q_u8(c->x + h * c->stride + 4 * i));
            for (int v = 0; v < 2; v++) {
                sums[h][v] = vdotq_laneq_s32(vdotq_laneq_s32(sums[h][v], a[v], times, 0), a[v + 2], times, 1);
                sums[h][v] = vdotq_laneq_s32(vdotq_laneq_s32(sums[h][v], a[v + 4], times, 2), a[v + 6], times, 3);
            }
        }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < 2; v++) out[h][v] = vcvtq_f32_s32(sums[h][v]);
}

/* Two quads at a time. */
INLINE void dot_values(const slm_panel_call *c, int heads, VEC (*out)[BYTE_VECTORS]) {
    const int8_t *panel = c->panel;
    int32x4_t high[VALUE_HEADS][2], low[VALUE_HEADS][2];
    for (int h = 0; h < heads; h++) high[h][0] = high[h][1] = low[h][0] = low[h][1] = vdupq_n_s32(0);
    for (int64_t i = 0; i < c->slices; i += 2, panel += 64) {
        int8x16_t a0 = vld1q_s8(panel), a1 = vld1q_s8(panel + 16), b0 = vld1q_s8(panel + 32), b1 = vld1q_s8(panel + 48);
        slm_ask(c->ahead, i / 8, i / 2 % SLM_RUNS);
        for (int h = 0; h < heads; h++) {
            int8x16_t times = vreinterpretq_s8_u8(vld1q_u8(c->x + h * c->stride + 8 * i));
            high[h][0] = vdotq_laneq_s32(vdotq_laneq_s32(high[h][0], a0, times, 0), b0, times, 2);
            high[h][1] = vdotq_laneq_s32(vdotq_laneq_s32(high[h][1], a1, times, 0), b1, times, 2);
            low[h][0] = vdotq_laneq_s32(vdotq_laneq_s32(low[h][0], a0, times, 1), b0, times, 3);
            low[h][1] = vdotq_laneq_s32(vdotq_laneq_s32(low[h][1], a1, times, 1), b1, times, 3);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < 2; v++) out[h][v] = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[h][v], 8), low[h][v]));
}

#include "template/attend_q8.h"

void slm_attend_q8_dotprod(const slm_attend *a) { attend(a, score, asking_of, gather); }
