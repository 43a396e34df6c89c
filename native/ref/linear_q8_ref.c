#include "rows.h"

/* Sum of q * value over a group, q as stored. */
static int32_t dot(const uint8_t *q, const int8_t *values, int64_t group) {
    int32_t sum = 0;
    for (int64_t k = 0; k < group; k++) sum += q[k] * values[k];
    return sum;
}

static float dot_row(const uint8_t *q, const uint16_t *scales, slm_act_row a, int64_t groups, int64_t group) {
    float acc = 0;
    for (int64_t g = 0; g < groups; g++, q += group)
        acc += (float)(dot(q, a.values + g * group, group) + a.corrections[g]) * (slm_half_to_float(scales[g]) * a.scales[g]);
    return acc;
}

void slm_linear_q8_ref(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                       int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    (void)scratch;
    int64_t group = w->group, groups = slm_groups(w->k, group);
    for (int64_t j = n0; j < n1; j++) {
        const uint8_t *q = (const uint8_t *)w->data + j * groups * group;
        for (int64_t i = 0; i < m; i++) {
            float acc = dot_row(q, w->scales + j * groups, slm_act_row_at(w, x, x_stride, i), groups, group) * w->scale;
            if (bias) acc += bias[j];
            float *out = y + i * y_stride + j;
            *out = accumulate ? *out + acc : acc;
        }
    }
}
