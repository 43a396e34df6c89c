#include <math.h>

#include "kernels.h"

float slm_exp_sum_ref(const float *x, int64_t n, float top) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += expf(x[i] - top);
    return (float)sum;
}
