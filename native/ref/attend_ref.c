#include <math.h>

#include "kernels.h"

static float dot(const float *a, const float *b, int64_t d) {
    float sum = 0;
    for (int64_t i = 0; i < d; i++) sum += a[i] * b[i];
    return sum;
}

/* One head, at most SLM_ATTEND_BLOCK rows. */
static void attend_block(const float *q, int64_t d, const float *keys, const float *values, int64_t kv_stride, int64_t count,
                         float softcap, float *max, float *sum, float *acc) {
    float weights[SLM_ATTEND_BLOCK], top = *max;
    for (int64_t j = 0; j < count; j++) {
        float score = dot(q, keys + j * kv_stride, d);
        weights[j] = softcap != 0 ? softcap * tanhf(score / softcap) : score;
        if (weights[j] > top) top = weights[j];
    }
    float shrink = expf(*max - top), total = 0;
    for (int64_t i = 0; i < d; i++) acc[i] *= shrink;
    for (int64_t j = 0; j < count; j++) {
        float weight = expf(weights[j] - top);
        total += weight;
        for (int64_t i = 0; i < d; i++) acc[i] += weight * values[j * kv_stride + i];
    }
    *max = top;
    *sum = *sum * shrink + total;
}

void slm_attend_ref(const float *q, int64_t n_q, int64_t d, const float *keys, const float *values, int64_t kv_stride,
                    int64_t count, float softcap, float *max, float *sum, float *acc) {
    for (int64_t start = 0; start < count; start += SLM_ATTEND_BLOCK) {
        int64_t rows = count - start < SLM_ATTEND_BLOCK ? count - start : SLM_ATTEND_BLOCK;
        for (int64_t h = 0; h < n_q; h++)
            attend_block(q + h * d, d, keys + start * kv_stride, values + start * kv_stride, kv_stride, rows, softcap, max + h,
                         sum + h, acc + h * d);
    }
}
