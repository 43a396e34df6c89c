#include "attend_neon.h"

#include "template/attend_float.h"

APART void score(const slm_attend *a, slm_seen all, float *scores) { score_float(a, 1, all, scores); }

APART void gather(const slm_attend *a, slm_seen any, const float *weights, const float *peaks) {
    (void)peaks; /* nothing is rounded */
    gather_float(a, 1, any, weights);
}

void slm_attend_f16_neon(const slm_attend *a) { attend(a, score, asking_of, gather); }
