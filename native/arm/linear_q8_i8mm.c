#include "tile_i8mm.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

extern slm_linear_fn slm_linear_q8_dotprod;

void slm_linear_q8_i8mm(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m < PANEL_ROWS) {
        slm_linear_q8_dotprod(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
        return;
    }
    slm_panel_kernel panels = {8, slm_unpack_q8, slm_arrange_i8mm, slm_tile_i8mm};
    slm_panel_call call = {w, x, x_stride, y, y_stride, bias, accumulate};
    slm_linear_panels(&call, panels, n0, n1, m, scratch);
}
