#include "quantize_ref.h"

#include "quantize.h"

static float quantize(float w, float step) { return slm_round_even(slm_clamp(w * step, -8.0f, 7.0f)); }

static float sum_lanes(const float s[SLM_LANES]) { return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])); }

static void consider(const float *w, int group, float step, slm_q4_best *best) {
    float wq[SLM_LANES] = {0}, qq[SLM_LANES] = {0};
    for (int i = 0; i < group; i += SLM_LANES)
        for (int l = 0; l < SLM_LANES; l++) {
            float q = quantize(w[i + l], step);
            wq[l] += w[i + l] * q;
            qq[l] += q * q;
        }
    slm_q4_consider(best, step, sum_lanes(wq), sum_lanes(qq));
}

static void quantize_group(const float *w, int group, uint8_t *data, float *scale) {
    float peak = slm_peak(w, group);
    slm_q4_best best = {.gain = -1};
    for (int c = 0; c <= 2 * SLM_SEARCH; c++) consider(w, group, slm_q4_step(peak, c), &best);
    for (int j = 0; j < group / 2; j++) {
        int low = (int)quantize(w[2 * j], best.step) + 8, high = (int)quantize(w[2 * j + 1], best.step) + 8;
        data[j] = (uint8_t)(low | high << 4);
    }
    *scale = best.scale;
}

void slm_quantize_q4_ref(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    slm_quantize_rows(quantize_group, rows, n, k, group, group / 2, data, scales);
}
