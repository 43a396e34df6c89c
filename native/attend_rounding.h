/* What the attend_q8 kernels of all instruction sets round to 16 bits. */
#ifndef SLM_ATTEND_ROUNDING_H
#define SLM_ATTEND_ROUNDING_H

#include "kernels.h"

/* Largest magnitude of a rounded query: no sum of d products with bytes leaves 32 bits, and its two bytes are each an int8. */
static inline float slm_query_limit(int64_t d) {
    int64_t limit = INT32_MAX / (128 * d);
    return (float)(limit < 127 * 257 ? limit : 127 * 257);
}

/* Of a rounded weight: no sum of SLM_KV_BLOCK products with bytes leaves 32 bits. */
#define SLM_WEIGHT_LIMIT 32639.0f

/* Below this largest magnitude all is rounded to 0: its inverse would overflow. */
#define SLM_ATTEND_TINY 1e-33f

#endif
