#include "quad.h"
#include "tile_dotprod.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

typedef int32x4_t quad_sums[SLM_QUAD][SLM_QUAD]; /* [token][output] */

/* Inputs k..k+15. */
SLM_INLINE void add_block(const slm_quad *w, const slm_act_row *a, int rows, int64_t k, quad_sums part) {
    for (int j = 0; j < SLM_QUAD; j++) {
        int8x16_t weights = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w->data[j] + k), vdupq_n_u8(128))); /* to signed */
        for (int r = 0; r < rows; r++) part[r][j] = vdotq_s32(part[r][j], weights, vld1q_s8(a[r].values + k));
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

void slm_linear_q8_dotprod(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                           int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m < PANEL_ROWS) {
        slm_quad_kernel quads = {dot, 8, 0};
        slm_linear_quads(w, quads, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate);
        return;
    }
    slm_panel_kernel panels = {8, slm_unpack_q8, slm_arrange_dotprod, slm_tile_dotprod};
    slm_panel_call call = {w, x, x_stride, y, y_stride, bias, accumulate};
    slm_linear_panels(&call, panels, n0, n1, m, scratch);
}
