#include "attend_neon.h"

#include "attend_round_neon.h"

#define dot_keys dot_slices
#define dot_values dot_slices

/* To rows of int16. */
INLINE void round16(const float *x, float inverse, float limit, uint8_t *out) {
    vst1q_u8(out, vreinterpretq_u8_s16(round8(x, inverse, limit)));
    vst1q_u8(out + 16, vreinterpretq_u8_s16(round8(x + 8, inverse, limit)));
}

INLINE void round_queries(const float *x, float inverse, uint8_t *out, int64_t i) { round16(x, inverse, SLM_QUERY_LIMIT, out + 2 * i); }

INLINE void round_weights(const float *x, float inverse, uint8_t *out, int64_t i) { round16(x, inverse, SLM_WEIGHT_LIMIT, out + 2 * i); }

/* For 1 or 2 heads, which with their sums fill the registers. The 4 products of a lane stay apart to the end. */
INLINE void dot_few(const int8_t *panel, int64_t quads, const uint8_t *x, int64_t stride, int heads, VEC (*out)[BYTE_VECTORS]) {
    int32x4_t acc[2][8];
    for (int h = 0; h < heads; h++)
        for (int l = 0; l < 8; l++) acc[h][l] = vdupq_n_s32(0);
    for (int64_t i = 0; i < quads; i++) {
        int16x8_t times[2], a[4];
        for (int b = 0; b < 4; b++) a[b] = vmovl_s8(vld1_s8(panel + 32 * i + 8 * b));
        for (int h = 0; h < heads; h++) {
            int16x4_t quad = vreinterpret_s16_u8(vld1_u8(x + h * stride + 8 * i));
            times[h] = vcombine_s16(quad, quad);
        }
        for (int b = 0; b < 4; b++)
            for (int h = 0; h < heads; h++) {
                acc[h][2 * b] = vmlal_s16(acc[h][2 * b], vget_low_s16(a[b]), vget_low_s16(times[h]));
                acc[h][2 * b + 1] = vmlal_high_s16(acc[h][2 * b + 1], a[b], times[h]);
            }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < 2; v++) {
            const int32x4_t *s = acc[h] + 4 * v;
            out[h][v] = vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
        }
}

INLINE void dot_slices(const slm_panel_call *c, int heads, VEC (*out)[BYTE_VECTORS]) {
    for (int64_t k = 0; k < c->slices / 2; k++) slm_ask(c->ahead, k / SLM_RUNS, k % SLM_RUNS);
    for (int h = 0; h < heads; h += 2)
        dot_few(c->panel, c->slices, c->x + h * c->stride, c->stride, heads - h < 2 ? heads - h : 2, out + h);
}

#include "template/attend_q8.h"

void slm_attend_q8_neon(const slm_attend *a) { attend(a, score, asking_of, gather); }
