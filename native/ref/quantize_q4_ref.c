#include "quantize_ref.h"

#include "quantize.h"

static float quantize(float w, float step) { return slm_round_even(slm_clamp(w * step, -8.0f, 7.0f)); }

static void try_step(const slm_q4_group *g, float step, float *wq_sum, float *qq_sum) {
    float wq[SLM_LANES] = {0}, qq[SLM_LANES] = {0};
    for (int i = 0; i < g->n; i += SLM_LANES)
        for (int l = 0; l < SLM_LANES; l++) {
            float q = quantize(g->w[i + l], step);
            wq[l] += g->vw[i + l] * q;
            qq[l] += g->v[i + l] * q * q;
        }
    *wq_sum = slm_sum_lanes(wq);
    *qq_sum = slm_sum_lanes(qq);
}

static void quantize_group(const float *w, int group, uint8_t *data, float *scale) {
    slm_q4_group g;
    slm_q4_search search;
    slm_q4_weigh(&g, w, group);
    for (int c = 0; c < SLM_CANDIDATES; c++) try_step(&g, slm_q4_step(g.inverse, c), &search.wq[c], &search.qq[c]);
    *scale = slm_q4_scale(&search);
    float step = slm_inverse_scale(*scale);
    for (int j = 0; j < group / 2; j++) {
        int low = (int)quantize(w[2 * j], step) + 8, high = (int)quantize(w[2 * j + 1], step) + 8;
        data[j] = (uint8_t)(low | high << 4);
    }
}

void slm_quantize_q4_ref(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    slm_quantize_rows(quantize_group, rows, n, k, group, group / 2, data, scales);
}
