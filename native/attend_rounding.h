/* What the attend_q8 kernels of all instruction sets round, and multiply. */
#ifndef SLM_ATTEND_ROUNDING_H
#define SLM_ATTEND_ROUNDING_H

#include "ahead.h"
#include "kernels.h"

/* Largest magnitude of a rounded query: a byte, as of the inputs of linears. */
#define SLM_QUERY_LIMIT 127.0f

/* Of a rounded weight, of 16 bits, as most of them are small beside the largest: no sum of SLM_KV_BLOCK products with bytes leaves 32 bits,
 * and its two bytes are each an int8. */
#define SLM_WEIGHT_LIMIT 32639.0f

/* Below this largest magnitude all is rounded to 0: its inverse would overflow. */
#define SLM_ATTEND_TINY 1e-33f

/* Dot products of rounded rows x, stride bytes apart, with the lanes of panels (slices, SLM_KV_BYTE_LANES, SLM_KV_BYTE_STEPS), panel_bytes
 * apart. Integers times their rows' scales, and times those of the lanes (NULL: none), go to out, out_stride apart. Meanwhile a line is
 * asked for with each 64 bytes. */
typedef struct slm_panel_call {
    const int8_t *panel;
    int64_t panels, panel_bytes, slices;
    const uint8_t *x;
    int64_t stride;
    const float *row_scales, *lane_scales;
    float *out;
    int64_t out_stride;
    slm_asking ahead;
} slm_panel_call;

#endif
