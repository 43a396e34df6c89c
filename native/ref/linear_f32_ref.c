#include "kernels.h"

/* Eight partial sums: a compiler may keep them in vector registers. */
static float dot(const float *row, const float *x, int64_t n) {
    float lanes[8] = {0}, sum = 0;
    int64_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (int l = 0; l < 8; l++) lanes[l] += row[k + l] * x[k + l];
    for (; k < n; k++) sum += row[k] * x[k];
    for (int l = 0; l < 8; l++) sum += lanes[l];
    return sum;
}

void slm_linear_f32_ref(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    for (int64_t j = n0; j < n1; j++) {
        const float *row = (const float *)w->data + j * w->k;
        for (int64_t i = 0; i < m; i++) {
            const float *a = (const float *)((const char *)x + (size_t)i * x_stride);
            float acc = dot(row, a, w->k);
            if (bias) acc += bias[j];
            float *out = y + i * y_stride + j;
            *out = accumulate ? *out + acc : acc;
        }
    }
}
