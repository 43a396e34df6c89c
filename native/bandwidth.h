/* How fast this machine reads memory: what bounds the speed of decoding, since every token reads all weights. */
#ifndef SLM_BANDWIDTH_H
#define SLM_BANDWIDTH_H

#include "kernels.h"
#include "status.h"

typedef struct slm_bandwidth {
    double bytes_per_s; /* of the fastest pass */
    uint64_t sum;       /* of the words of all passes */
} slm_bandwidth;

/* Reads words[0..count) `passes` times (count, passes >= 1) with as many threads (1 <= threads <= SLM_MAX_THREADS), which take pieces
 * of it as they come. Choose `count` so large that no cache keeps what the next pass reads. */
enum slm_status slm_read_bandwidth(const slm_kernels *kernels, const uint64_t *words, int64_t count, int threads, int passes,
                                   slm_bandwidth *result);

#endif
