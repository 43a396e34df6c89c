#include <math.h>

#include "kernels.h"

void slm_norm_ref(const float *x, const float *weight, float eps, int64_t n, float *out, int accumulate) {
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    float inverse = 1.0f / sqrtf((float)(squares / (double)n) + eps);
    for (int64_t i = 0; i < n; i++) {
        float y = x[i] * inverse * weight[i];
        out[i] = accumulate ? out[i] + y : y;
    }
}
