/* Blockwise linear with the weights read in place: up to four tokens by four outputs. For few tokens, and on cores without dot products
 * for many too: unpacking on the way costs an instruction for each eight multiply-adds, a panel would cost as many loads.
 *
 * The including kernel gives the integer dot products of one group.
 */
#ifndef SLM_ARM_QUAD_H
#define SLM_ARM_QUAD_H

#include "float_neon.h"
#include "rows.h"

#define SLM_INLINE static inline __attribute__((always_inline))

enum { SLM_QUAD = 4, SLM_LINE_BYTES = 64 };

/* Four weight rows. */
typedef struct slm_quad {
    const uint8_t *data[SLM_QUAD];
    const uint16_t *scales[SLM_QUAD];
    int64_t row_bytes;
} slm_quad;

/* How a kernel multiplies: the products of group g of `rows` (1 to 4) tokens with the four outputs, as sums[token] = (output 0, 1, 2, 3);
 * rows and group are constants. With use_corrections the weights were taken as stored, zero point included. */
typedef void slm_quad_dot_fn(const slm_quad *w, const slm_act_row *a, int rows, int64_t group, int64_t g, int32x4_t *sums);

typedef struct slm_quad_kernel {
    slm_quad_dot_fn *dot;
    int bits; /* of a weight as stored */
    int use_corrections;
} slm_quad_kernel;

/* The totals of four vectors. */
static inline int32x4_t slm_total4(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

/* Rows are too short for the hardware to see where they go on: ask for the same place in the next four, line by line. */
SLM_INLINE void slm_prefetch_quad(const slm_quad *w, int64_t group_bytes, int64_t g) {
    int64_t at = g * group_bytes;
    if (at % SLM_LINE_BYTES) return;
    for (int64_t line = at; line < at + group_bytes; line += SLM_LINE_BYTES)
        for (int j = 0; j < SLM_QUAD; j++) __builtin_prefetch(w->data[j] + SLM_QUAD * w->row_bytes + line);
}

SLM_INLINE float32x4_t slm_quad_scales(const slm_quad *w, int64_t g) {
    uint16x4_t v = vld1_dup_u16(w->scales[0] + g);
    v = vld1_lane_u16(w->scales[1] + g, v, 1);
    v = vld1_lane_u16(w->scales[2] + g, v, 2);
    return slm_widen4(vld1_lane_u16(w->scales[3] + g, v, 3));
}

/* acc[token] over all groups, in order, rounded after each operation as in `ref`. */
SLM_INLINE void slm_quad_tile(const slm_quad *w, slm_quad_kernel kernel, const slm_act_row *a, int rows, int64_t group, int64_t groups,
                              float32x4_t *acc) {
    for (int r = 0; r < rows; r++) acc[r] = vdupq_n_f32(0);
    for (int64_t g = 0; g < groups; g++) {
        int32x4_t sums[SLM_QUAD];
        if (rows == 1) slm_prefetch_quad(w, group * kernel.bits / 8, g);
        kernel.dot(w, a, rows, group, g, sums);
        float32x4_t scales = slm_quad_scales(w, g);
        for (int r = 0; r < rows; r++) {
            if (kernel.use_corrections) sums[r] = vaddq_s32(sums[r], vld1q_dup_s32(a[r].corrections + g));
            acc[r] = vaddq_f32(acc[r], vmulq_f32(vcvtq_f32_s32(sums[r]), vmulq_n_f32(scales, a[r].scales[g])));
        }
    }
}

/* A body for each group size and number of tokens. */
SLM_INLINE void slm_quad_rows(const slm_quad *w, slm_quad_kernel kernel, const slm_act_row *a, int rows, int64_t group, int64_t groups,
                              float32x4_t *acc) {
    if (group == 32) slm_quad_tile(w, kernel, a, rows, 32, groups, acc);
    else if (group == 64) slm_quad_tile(w, kernel, a, rows, 64, groups, acc);
    else slm_quad_tile(w, kernel, a, rows, 128, groups, acc);
}

SLM_INLINE void slm_quad_tokens(const slm_quad *w, slm_quad_kernel kernel, const slm_act_row *a, int64_t rows, int64_t group,
                                int64_t groups, float32x4_t *acc) {
    switch (rows) {
    case 1: slm_quad_rows(w, kernel, a, 1, group, groups, acc); break;
    case 2: slm_quad_rows(w, kernel, a, 2, group, groups, acc); break;
    case 3: slm_quad_rows(w, kernel, a, 3, group, groups, acc); break;
    default: slm_quad_rows(w, kernel, a, 4, group, groups, acc);
    }
}

/* Four weight rows from output j; past the last one (n1 - 1) it is repeated, and its results are dropped later. */
static inline slm_quad slm_quad_at(const slm_matrix *w, int64_t row_bytes, int64_t j, int64_t n1) {
    slm_quad quad = {.row_bytes = row_bytes};
    for (int64_t r = 0; r < SLM_QUAD; r++) {
        int64_t row = j + r < n1 ? j + r : n1 - 1;
        quad.data[r] = (const uint8_t *)w->data + row * row_bytes;
        quad.scales[r] = w->scales + row * slm_groups(w->k, w->group);
    }
    return quad;
}

/* Four tokens stay in the first-level cache while a step of outputs passes, which the second-level cache keeps for the next four. */
SLM_INLINE void slm_linear_quads(const slm_matrix *w, slm_quad_kernel kernel, int64_t n0, int64_t n1, const void *x, size_t x_stride,
                                 int64_t m, float *y, int64_t y_stride, const float *bias, int accumulate) {
    int64_t groups = slm_groups(w->k, w->group), row_bytes = groups * w->group * kernel.bits / 8;
    for (int64_t step = n0; step < n1; step += SLM_LINEAR_STEP)
        for (int64_t i = 0; i < m; i += SLM_QUAD) {
            slm_act_row a[SLM_QUAD];
            int64_t rows = m - i < SLM_QUAD ? m - i : SLM_QUAD;
            for (int64_t r = 0; r < rows; r++) a[r] = slm_act_row_at(w, x, x_stride, i + r);
            for (int64_t j = step; j < n1 && j < step + SLM_LINEAR_STEP; j += SLM_QUAD) {
                slm_quad quad = slm_quad_at(w, row_bytes, j, n1);
                float32x4_t acc[SLM_QUAD];
                slm_quad_tokens(&quad, kernel, a, rows, w->group, groups, acc);
                for (int64_t r = 0; r < rows; r++) {
                    float sums[SLM_QUAD];
                    vst1q_f32(sums, acc[r]);
                    slm_store_outputs(sums, n1 - j < SLM_QUAD ? n1 - j : SLM_QUAD, w->scale, y + (i + r) * y_stride + j,
                                      bias ? bias + j : NULL, accumulate);
                }
            }
        }
}

#endif
