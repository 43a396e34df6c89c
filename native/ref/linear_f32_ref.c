#include "kernels.h"

void slm_linear_f32_ref(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    for (int64_t j = n0; j < n1; j++) {
        const float *row = (const float *)w->data + j * w->k;
        for (int64_t i = 0; i < m; i++) {
            const float *a = (const float *)((const char *)x + (size_t)i * x_stride);
            float acc = 0;
            for (int64_t k = 0; k < w->k; k++) acc += row[k] * a[k];
            if (bias) acc += bias[j];
            float *out = y + i * y_stride + j;
            *out = accumulate ? *out + acc : acc;
        }
    }
}
