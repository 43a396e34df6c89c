/* The body of the read kernels: sums side by side, which the compiler makes vectors of, so that they wait for memory alone. */
#include "kernels.h"

#define LANES 16

static inline void read_words(const uint64_t *words, int64_t n, uint64_t *sum) {
    uint64_t sums[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += words[i + lane];
    for (; i < n; i++) sums[0] += words[i];
    for (int lane = 0; lane < LANES; lane++) *sum += sums[lane];
}
