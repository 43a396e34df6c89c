#include "quad.h"

/* Nibbles of 32 weights and the packed values that they meet, low first. */
typedef struct pair {
    int8x16_t low, high;
} pair;

static inline pair load_weights(const uint8_t *q) {
    uint8x16_t bytes = vld1q_u8(q);
    return (pair){vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4))};
}

static inline pair load_values(const int8_t *values) { return (pair){vld1q_s8(values), vld1q_s8(values + 16)}; }

/* sum (nothing yet, if first) plus 32 products in 8 lanes. */
SLM_INLINE int16x8_t multiply(int16x8_t sum, int first, pair w, pair a) {
    int8x8_t weights = vget_low_s8(w.low), values = vget_low_s8(a.low);
    sum = first ? vmull_s8(weights, values) : vmlal_s8(sum, weights, values);
    sum = vmlal_high_s8(sum, w.low, a.low);
    return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(w.high), vget_low_s8(a.high)), w.high, a.high);
}

typedef int16x8_t quad_sums[SLM_QUAD][SLM_QUAD]; /* [token][output] */

/* Inputs k..k+31. */
SLM_INLINE void add_block(const slm_quad *w, const slm_act_row *a, int rows, int64_t k, int first, quad_sums part) {
    pair values[SLM_QUAD];
    for (int r = 0; r < rows; r++) values[r] = load_values(a[r].values + k);
    for (int j = 0; j < SLM_QUAD; j++) {
        pair weights = load_weights(w->data[j] + k / 2);
        for (int r = 0; r < rows; r++) part[r][j] = multiply(part[r][j], first, weights, values[r]);
    }
}

/* The totals of four vectors. A sum holds group / 8 products of at most 15 * 127, so 16 bits hold 16 of them: a group of 128, or, of a
 * group of 32, four sums added up. */
static inline int32x4_t total4(const int16x8_t *v, int64_t group) {
    if (group == 32) return vpaddlq_s16(vpaddq_s16(vpaddq_s16(v[0], v[1]), vpaddq_s16(v[2], v[3])));
    return slm_total4(vpaddlq_s16(v[0]), vpaddlq_s16(v[1]), vpaddlq_s16(v[2]), vpaddlq_s16(v[3]));
}

SLM_INLINE void dot(const slm_quad *w, const slm_act_row *a, int rows, int64_t group, int64_t g, int32x4_t *sums) {
    quad_sums part;
    add_block(w, a, rows, g * group, 1, part);
    for (int64_t k = 32; k < group; k += 32) add_block(w, a, rows, g * group + k, 0, part);
    for (int r = 0; r < rows; r++) sums[r] = total4(part[r], group);
}

void slm_linear_q4_neon(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    slm_quad_kernel kernel = {dot, 4, 1};
    slm_linear_quads(w, kernel, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate);
}
