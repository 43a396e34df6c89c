/* Attention over one block, shared by the attend_*_ref kernels: they say how a score and a weighted sum of values are computed. */
#ifndef SLM_ATTEND_REF_H
#define SLM_ATTEND_REF_H

#include <math.h>

#include "kv_rows.h"

/* q . key for the rows seen, into scores[row]. */
typedef void slm_score_fn(const slm_attend *a, const float *q, slm_seen seen, float *scores);

/* out (d) = sum over the rows seen of weights[row] * value; may change the weights. */
typedef void slm_gather_fn(const slm_attend *a, float *weights, slm_seen seen, float *out);

/* Scores become weights exp(score - max); returns their sum. */
static inline float slm_soften_ref(float *scores, slm_seen seen, float softcap, float *max) {
    float sum = 0;
    *max = -INFINITY;
    for (int32_t j = seen.first; j < seen.stop; j++) {
        if (softcap != 0) scores[j] = softcap * tanhf(scores[j] / softcap);
        *max = scores[j] > *max ? scores[j] : *max;
    }
    for (int32_t j = seen.first; j < seen.stop; j++) sum += scores[j] = expf(scores[j] - *max);
    return sum;
}

static inline void slm_attend_ref(const slm_attend *a, slm_score_fn *score, slm_gather_fn *gather) {
    float *weights = (float *)a->scratch;
    int64_t width = slm_kv_width(a->d);
    for (int64_t h = 0; h < a->n_q; h++) {
        score(a, a->q + h * width, a->seen[h], weights);
        a->out.sum[h] = slm_soften_ref(weights, a->seen[h], a->softcap, a->out.max + h);
        gather(a, weights, a->seen[h], a->out.acc + h * width);
    }
}

#endif
