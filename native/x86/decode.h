/* Linear of one token over blockwise weights, read as they lie: sums cross lanes once a group, and nothing has to be laid out in
 * columns. 256-bit vectors (lanes_avx2.h), and step() and finish() as for columns.h. The format (decode_*.h) brings
 *
 *     dot_rows4(rows, block, blocks, values)   the token's values by `blocks` times 32 inputs of four rows: totals of each row, in
 *                                              the low and the high half of the result for those halves of a load
 *     LOAD_BLOCKS                              blocks of a load
 */
#ifndef SLM_X86_DECODE_H
#define SLM_X86_DECODE_H

#include "columns.h"

/* Where a load holds two groups, the halves are theirs. A last group without a second is left to the caller. */
static inline __attribute__((always_inline)) slm_floats one_row(const lane_rows *l, const float *scales, int64_t group,
                                                                int64_t groups, const slm_act_row *row) {
    const int64_t blocks = group / 32, pair = blocks < LOAD_BLOCKS ? 2 : 1;
    slm_floats acc = slm_every_float(0);
    for (int64_t g = 0; g + pair <= groups; g += pair) {
        int64_t b = g * blocks;
        for (int64_t i = b; i < b + blocks * pair; i++) prefetch_ahead(l, i);
        slm_ints low = dot_rows4(l->rows, b, blocks * pair, row->values);
        slm_ints high = dot_rows4(l->rows + 4, b, blocks * pair, row->values);
        slm_ints first = _mm256_permute2x128_si256(low, high, 0x20), second = _mm256_permute2x128_si256(low, high, 0x31);
        if (pair == 1) first = _mm256_add_epi32(first, second);
        first = _mm256_add_epi32(first, group_start(row, g));
        acc = add_group(acc, first, slm_load_floats(scales + g * SLM_LANES), row, g);
        if (pair == 1) continue;
        second = _mm256_add_epi32(second, group_start(row, g + 1));
        acc = add_group(acc, second, slm_load_floats(scales + (g + 1) * SLM_LANES), row, g + 1);
    }
    return acc;
}

static inline slm_floats last_group(slm_floats acc, const lane_rows *l, const float *scales, int64_t g, const slm_act_row *row) {
    slm_ints w[8];
    load32(l->rows, g, w);
    return add_group(acc, dot32(group_start(row, g), w, row->values + g * 32), slm_load_floats(scales + g * SLM_LANES), row, g);
}

static inline void linear_one(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, float *y, const float *bias,
                              int accumulate, float *scales) {
    int64_t groups = slm_groups(w->k, w->group);
    slm_act_row row = slm_act_row_at(w, x, 0, 0);
    for (int64_t j = n0; j < n1; j += SLM_LANES) {
        lane_rows l = lane_rows_at(w, j, n1);
        widen_scales(w, j, n1, scales, SLM_LANES);
        slm_floats acc;
        if (w->group == 32) acc = one_row(&l, scales, 32, groups, &row);
        else if (w->group == 64) acc = one_row(&l, scales, 64, groups, &row);
        else acc = one_row(&l, scales, 128, groups, &row);
        if (LOAD_BLOCKS == 2 && w->group == 32 && groups % 2) acc = last_group(acc, &l, scales, groups - 1, &row);
        _Alignas(32) float sums[SLM_LANES];
        slm_store_floats(sums, acc);
        slm_store_outputs(sums, n1 - j < SLM_LANES ? n1 - j : SLM_LANES, w->scale, y + j, bias ? bias + j : NULL, accumulate);
    }
}

static inline void linear_any(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                              int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m == 1) linear_one(w, n0, n1, x, y, bias, accumulate, scratch);
    else linear_columns(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}

#endif
