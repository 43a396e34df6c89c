#include "pack_ref.h"

/* Per 32 values: even indices first, as the nibbles of the weights lie. */
static void split_even_odd(const int8_t *in, int64_t n, int8_t *out) {
    for (int64_t k = 0; k < n; k += 32)
        for (int64_t j = 0; j < 16; j++) {
            out[k + j] = in[k + 2 * j];
            out[k + 16 + j] = in[k + 2 * j + 1];
        }
}

void slm_pack_q4_ref(const float *x, int64_t k, int32_t group, void *out) {
    int64_t groups = slm_groups(k, group);
    int8_t *values = out;
    float *scales = (float *)(values + groups * group);
    int32_t *corrections = (int32_t *)(scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        int64_t n = k - g * group < group ? k - g * group : group;
        int8_t ordered[128];
        int32_t sum = 0;
        scales[g] = slm_pack_group_ref(x + g * group, n, group, ordered, &sum);
        split_even_odd(ordered, group, values + g * group);
        corrections[g] = -8 * sum;
    }
}
