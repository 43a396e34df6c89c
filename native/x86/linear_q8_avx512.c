#include "panel.h"
#include "tile_avx512.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

extern slm_linear_fn slm_linear_q8_avx2;

static inline __m256i unpack(const uint8_t *row, int64_t block) {
    return _mm256_loadu_si256((const __m256i *)(row + block * 32));
}

void slm_linear_q8_avx512(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                          int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m < PANEL_ROWS) {
        slm_linear_q8_avx2(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
        return;
    }
    slm_panel_shape shape = {SLM_WIDTH, SLM_HEIGHT, slm_groups(w->k, w->group) * w->group, unpack, slm_tile_avx512};
    slm_linear_panels(w, shape, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
