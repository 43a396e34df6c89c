/* Asking memory ahead for the rows of a block. */
#ifndef SLM_AHEAD_H
#define SLM_AHEAD_H

#include <stdint.h>

/* A block's bytes are asked for in SLM_RUNS of the same length side by side, each upward: the core's own prefetcher follows each of them within
 * a page, and the first lines of a page, for which it is not ahead yet, are spread out. */
#define SLM_RUNS 4

typedef struct slm_asking {
    const char *at;      /* in the first run */
    int64_t apart, step; /* bytes between runs, and between turns; these at most a line, as a turn asks each run for one; 0 and 0: for nothing new */
} slm_asking;

static inline void slm_ask(slm_asking a, int64_t turn, int64_t run) {
    __builtin_prefetch(a.at + turn * a.step + run * a.apart, 0, 2); /* into the second level of cache: the first one has the block at hand */
}

#endif
