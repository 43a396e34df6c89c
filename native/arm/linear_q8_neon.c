#include "quad.h"

/* 16 weights as stored (unsigned, zero point 128) to signed. */
static inline int8x16_t load_weights(const uint8_t *q) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(q), vdupq_n_u8(128))); }

/* Two products of at most 128 * 127 fit 16 bits. */
static inline int32x4_t multiply_add(int32x4_t sum, int8x16_t w, int8x16_t a) {
    return vpadalq_s16(sum, vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(a)), w, a));
}

typedef int32x4_t quad_sums[SLM_QUAD][SLM_QUAD]; /* [token][output] */

/* Inputs k..k+15. */
SLM_INLINE void add_block(const slm_quad *w, const slm_act_row *a, int rows, int64_t k, quad_sums part) {
    int8x16_t values[SLM_QUAD];
    for (int r = 0; r < rows; r++) values[r] = vld1q_s8(a[r].values + k);
    for (int j = 0; j < SLM_QUAD; j++) {
        int8x16_t weights = load_weights(w->data[j] + k);
        for (int r = 0; r < rows; r++) part[r][j] = multiply_add(part[r][j], weights, values[r]);
    }
}

SLM_INLINE void dot(const slm_quad *w, const slm_act_row *a, int rows, int64_t group, int64_t g, int32x4_t *sums) {
    quad_sums part;
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < SLM_QUAD; j++) part[r][j] = vdupq_n_s32(0);
    for (int64_t k = 0; k < group; k += 32) {
        add_block(w, a, rows, g * group + k, part);
        add_block(w, a, rows, g * group + k + 16, part);
    }
    for (int r = 0; r < rows; r++) sums[r] = slm_total4(part[r][0], part[r][1], part[r][2], part[r][3]);
}

void slm_linear_q8_neon(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    slm_quad_kernel kernel = {dot, 8, 0};
    slm_linear_quads(w, kernel, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate);
}
