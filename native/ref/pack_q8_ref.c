#include "pack_ref.h"

void slm_pack_q8_ref(const float *x, int64_t k, int32_t group, void *out) {
    int64_t groups = slm_groups(k, group);
    int8_t *values = out;
    float *scales = (float *)(values + groups * group);
    int32_t *corrections = (int32_t *)(scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        int64_t n = k - g * group < group ? k - g * group : group;
        int32_t sum = 0;
        scales[g] = slm_pack_group_ref(x + g * group, n, group, values + g * group, &sum);
        corrections[g] = -128 * sum;
    }
}
