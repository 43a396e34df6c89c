#include "float_neon.h"
#include "quantize.h"

static inline float32x4_t quantize(float32x4_t w, float step) {
    float32x4_t v = vmaxq_f32(vmulq_n_f32(w, step), vdupq_n_f32(-8.0f));
    return vrndnq_f32(vminq_f32(v, vdupq_n_f32(7.0f)));
}

static inline void try_step(const slm_q4_group *g, int group, float step, float *wq_sum, float *qq_sum) {
    float32x4_t wq[2] = {vdupq_n_f32(0), vdupq_n_f32(0)}, qq[2] = {wq[0], wq[0]};
    for (int i = 0; i < group; i += 8)
        for (int h = 0; h < 2; h++) {
            int at = i + 4 * h;
            float32x4_t q = quantize(vld1q_f32(g->w + at), step);
            wq[h] = vaddq_f32(wq[h], vmulq_f32(vld1q_f32(g->vw + at), q)); /* not fused: the sums must equal those of ref */
            qq[h] = vaddq_f32(qq[h], vmulq_f32(vmulq_f32(vld1q_f32(g->v + at), q), q));
        }
    float32x4_t s = vpaddq_f32(vpaddq_f32(wq[0], wq[1]), vpaddq_f32(qq[0], qq[1])); /* neighbours first, as NumPy adds its lanes */
    s = vpaddq_f32(s, s);
    *wq_sum = vgetq_lane_f32(s, 0);
    *qq_sum = vgetq_lane_f32(s, 1);
}

static inline int16x8_t integers4(const float *w, float step) {
    return vreinterpretq_s16_s32(vcvtnq_s32_f32(quantize(vld1q_f32(w), step)));
}

/* 16 values → 8 bytes. */
static inline void store_nibbles(const float *w, float step, uint8_t *out) {
    int16x8_t low = vuzp1q_s16(integers4(w, step), integers4(w + 4, step));
    int16x8_t high = vuzp1q_s16(integers4(w + 8, step), integers4(w + 12, step));
    uint8x16_t v = vreinterpretq_u8_s8(vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high)));
    v = vaddq_u8(v, vdupq_n_u8(8));
    uint8x16_t even = vuzp1q_u8(v, v), odd = vuzp2q_u8(v, v);
    vst1_u8(out, vget_low_u8(vsliq_n_u8(even, odd, 4)));
}

static inline __attribute__((always_inline)) void search(const float *w, int group, uint8_t *data, float *scale) {
    slm_q4_group g;
    slm_q4_search sums;
    slm_q4_weigh(&g, w, group);
    for (int c = 0; c < SLM_CANDIDATES; c++) try_step(&g, group, slm_q4_step(g.inverse, c), &sums.wq[c], &sums.qq[c]);
    *scale = slm_q4_scale(&sums);
    float step = slm_inverse_scale(*scale);
    for (int i = 0; i < group; i += 16) store_nibbles(w + i, step, data + i / 2);
}

/* The smallest group has a body of its own: it stays in registers. */
static void quantize_group(const float *w, int group, uint8_t *data, float *scale) {
    if (group == 32) search(w, 32, data, scale);
    else search(w, group, data, scale);
}

void slm_quantize_q4_neon(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    slm_quantize_rows(quantize_group, rows, n, k, group, group / 2, data, scales);
}
