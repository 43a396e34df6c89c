#include <math.h>

#include "kernels.h"

void slm_merge_ref(slm_softmax total, slm_softmax part, int64_t n_q, int64_t width) {
    for (int64_t h = 0; h < n_q; h++) {
        if (part.sum[h] == 0) continue;
        float top = part.max[h] > total.max[h] ? part.max[h] : total.max[h];
        float old = expf(total.max[h] - top), new = expf(part.max[h] - top);
        for (int64_t i = 0; i < width; i++) total.acc[h * width + i] = total.acc[h * width + i] * old + part.acc[h * width + i] * new;
        total.sum[h] = total.sum[h] * old + part.sum[h] * new;
        total.max[h] = top;
    }
}
