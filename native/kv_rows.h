/* How the rows of one KV head lie in one block of a cache.
 *
 * Keys and values are panels, multiplied with vectors that run along their steps, many lanes at once, without sums across lanes. To score
 * keys, the lanes are rows and the steps run along a row; to sum weighted values, the lanes run along a row and the steps are rows.
 *   f32, f16   (panels, steps, 16 lanes)
 *   q8         (panels, steps / 4, 8 or 16 lanes, 4 steps): as dot products of bytes take them
 * Rows are slm_kv_width values wide; those from d on are never written, and what lies there is never used.
 */
#ifndef SLM_KV_ROWS_H
#define SLM_KV_ROWS_H

#include "kernels.h"

#define SLM_KV_LANES 16 /* of a panel of floats */
#if defined(__x86_64__) || defined(_M_X64)
#define SLM_KV_BYTE_LANES 16
#else
#define SLM_KV_BYTE_LANES 8
#endif
#define SLM_KV_BYTE_STEPS 4

static inline size_t slm_kv_value_bytes(int32_t format) { return format == SLM_F32 ? 4 : format == SLM_F16 ? 2 : 1; }

/* Bytes of the keys, or the values, of one head in one block. */
static inline size_t slm_kv_part_bytes(int32_t format, int64_t d) {
    return (size_t)slm_kv_width(d) * SLM_KV_BLOCK * slm_kv_value_bytes(format);
}

/* Bytes of one head in one block: keys, values, and the scales of both. */
static inline size_t slm_kv_head_bytes(int32_t format, int64_t d) {
    return 2 * (slm_kv_part_bytes(format, d) + (format == SLM_Q8 ? SLM_KV_BLOCK * sizeof(float) : 0));
}

/* The rows that lie in `memory`: scales before what they scale, to be asked for in one go. */
static inline slm_kv_view slm_kv_view_in(int32_t format, int64_t d, void *memory) {
    char *keys = (char *)memory, *values = keys + slm_kv_head_bytes(format, d) / 2;
    size_t scales = format == SLM_Q8 ? SLM_KV_BLOCK * sizeof(float) : 0;
    slm_kv_view rows = {keys + scales, values + scales, scales ? (float *)(void *)keys : NULL, scales ? (float *)(void *)values : NULL};
    return rows;
}

static inline int64_t slm_kv_index(int32_t format, int64_t steps, int64_t lane, int64_t step) {
    if (format != SLM_Q8) return (lane / SLM_KV_LANES * steps + step) * SLM_KV_LANES + lane % SLM_KV_LANES;
    int64_t before = lane / SLM_KV_BYTE_LANES * steps + step / SLM_KV_BYTE_STEPS * SLM_KV_BYTE_STEPS;
    return before * SLM_KV_BYTE_LANES + lane % SLM_KV_BYTE_LANES * SLM_KV_BYTE_STEPS + step % SLM_KV_BYTE_STEPS;
}

/* Where value i of a row lies among the keys, and among the values. */
static inline int64_t slm_key_index(int32_t format, int64_t d, int64_t row, int64_t i) {
    return slm_kv_index(format, slm_kv_width(d), row, i);
}

static inline int64_t slm_value_index(int32_t format, int64_t row, int64_t i) { return slm_kv_index(format, SLM_KV_BLOCK, i, row); }

#endif
