#include "quantize_ref.h"

#include "quantize.h"

static void quantize_group(const float *w, int group, uint8_t *data, float *scale) {
    *scale = slm_round_scale(fabsf(slm_peak(w, group)) / 127.0f);
    float inverse = slm_inverse_scale(*scale);
    for (int i = 0; i < group; i++)
        data[i] = (uint8_t)(int)(slm_round_even(slm_clamp(w[i] * inverse, -127.0f, 127.0f)) + 128.0f);
}

void slm_quantize_q8_ref(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    slm_quantize_rows(quantize_group, rows, n, k, group, group, data, scales);
}
