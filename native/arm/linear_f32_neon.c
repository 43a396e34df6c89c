#include "dense_neon.h"

void slm_linear_f32_neon(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                         int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    dense_call call = {w, x, x_stride, y, y_stride, bias, accumulate};
    dense_linear(&call, 0, n0, n1, m, NULL);
}
