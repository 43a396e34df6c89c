/* Linear of several tokens over blockwise weights, outputs in the lanes of vectors: one vector holds the same four inputs of
 * neighbouring outputs, a token brings its four by broadcast, and no sum ever crosses lanes. The including file brings the
 * instruction set (lanes_*.h), then
 *
 *     start(sums, w, a)        the first part of 8: products of one such vector with four activations in every lane
 *     step(&part, w, a)        adds those of the next to part
 *     finish(sums, part)       after the last of them: the sums of the group so far
 *     AHEAD_BYTES              how far ahead to ask memory for weights (lane_rows.h)
 *     USE_CORRECTIONS          1: weights are unsigned, and the packed corrections take their zero point away
 *     TILE_ROWS, TILE_VECTORS  tokens, and vectors of outputs, that the registers hold the sums of
 *
 * and the format (columns_*.h):
 *
 *     load32(rows, block, w)   32 inputs of SLM_LANES rows as 8 vectors, in the order of the packed activations
 *     BLOCK_BYTES              of 32 weights of a row
 *
 * Few tokens: weights are read in the order of memory and meet all tokens in registers. Many: a panel of outputs is laid out in columns
 * once, and all tokens run over it.
 */
#ifndef SLM_X86_COLUMNS_H
#define SLM_X86_COLUMNS_H

#include <string.h>

#include "lane_rows.h"

enum {
    FEW_ROWS = 8,                            /* tokens up to which laying out a panel does not pay */
    PANEL_WIDTH = TILE_VECTORS * SLM_LANES,  /* outputs */
    PANEL_INPUTS = 512,                      /* of a panel at a time, so that they stay in the first-level cache for a batch */
    BATCH_ROWS = 64,                         /* tokens; a multiple of TILE_ROWS */
};

/* Four activations in every lane. */
static inline slm_ints broadcast4(const int8_t *values) {
    int32_t four;
    memcpy(&four, values, sizeof four);
    return slm_every_int(four);
}

static inline slm_ints dot32(slm_ints sums, const slm_ints w[8], const int8_t *values) {
    slm_ints part = start(sums, w[0], broadcast4(values));
    for (int c = 1; c < 8; c++) step(&part, w[c], broadcast4(values + 4 * c));
    return finish(sums, part);
}

/* Of two tokens in turns, so that a step need not wait for the one before. */
static inline void dots32(slm_ints sums[2], const slm_ints w[8], const int8_t *a, const int8_t *b) {
    slm_ints first = start(sums[0], w[0], broadcast4(a)), second = start(sums[1], w[0], broadcast4(b));
    for (int c = 1; c < 8; c++) {
        step(&first, w[c], broadcast4(a + 4 * c));
        step(&second, w[c], broadcast4(b + 4 * c));
    }
    sums[0] = finish(sums[0], first);
    sums[1] = finish(sums[1], second);
}

/* m tokens (even, and known to the compiler) by SLM_LANES outputs, into out (m, SLM_LANES). scales: [groups][SLM_LANES]. */
static inline __attribute__((always_inline)) void few_rows(const lane_rows *l, const float *scales, int64_t group, int64_t groups,
                                                           const slm_act_row *rows, int m, float *out) {
    slm_floats acc[FEW_ROWS];
    slm_ints w[8], sums[FEW_ROWS];
    const int64_t blocks = group / 32;
    for (int i = 0; i < m; i++) acc[i] = slm_every_float(0);
    for (int64_t g = 0; g < groups; g++) {
        for (int i = 0; i < m; i++) sums[i] = group_start(rows + i, g);
        for (int64_t b = g * blocks; b < (g + 1) * blocks; b++) {
            prefetch_next(l, b);
            load32(l->rows, b, w);
            for (int i = 0; i < m; i += 2) dots32(sums + i, w, rows[i].values + b * 32, rows[i + 1].values + b * 32);
        }
        slm_floats s = slm_load_floats(scales + g * SLM_LANES);
        for (int i = 0; i < m; i++) acc[i] = add_group(acc[i], sums[i], s, rows + i, g);
    }
    for (int i = 0; i < m; i++) slm_store_floats(out + i * SLM_LANES, acc[i]);
}

/* The same for m that is not known: up to one more of them is computed for nothing. */
static inline __attribute__((always_inline)) void few_groups(const lane_rows *l, const float *scales, int64_t group, int64_t groups,
                                                             const slm_act_row *rows, int64_t m, float *out) {
    if (m == 2) few_rows(l, scales, group, groups, rows, 2, out);
    else if (m <= 4) few_rows(l, scales, group, groups, rows, 4, out);
    else if (m <= 6) few_rows(l, scales, group, groups, rows, 6, out);
    else few_rows(l, scales, group, groups, rows, FEW_ROWS, out);
}

/* 2 <= m <= FEW_ROWS; one token is decode.h's. */
static inline void linear_few(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                              int64_t y_stride, const float *bias, int accumulate, float *scales) {
    int64_t groups = slm_groups(w->k, w->group);
    _Alignas(64) float sums[FEW_ROWS * SLM_LANES];
    slm_act_row rows[FEW_ROWS];
    for (int64_t i = 0; i < FEW_ROWS; i++) rows[i] = slm_act_row_at(w, x, x_stride, i < m ? i : m - 1);
    for (int64_t j = n0; j < n1; j += SLM_LANES) {
        lane_rows l = lane_rows_at(w, j, n1);
        widen_scales(w, j, n1, scales, SLM_LANES);
        if (w->group == 32) few_groups(&l, scales, 32, groups, rows, m, sums);
        else few_groups(&l, scales, w->group, groups, rows, m, sums);
        int64_t count = n1 - j < SLM_LANES ? n1 - j : SLM_LANES;
        for (int64_t i = 0; i < m; i++)
            slm_store_outputs(sums + i * SLM_LANES, count, w->scale, y + i * y_stride + j, bias ? bias + j : NULL, accumulate);
    }
}

/* 32 inputs of the tile's tokens by the panel's columns. */
static inline __attribute__((always_inline)) void tile32(const uint8_t *columns, const int8_t *const values[TILE_ROWS], int64_t k,
                                                         slm_ints sums[TILE_ROWS][TILE_VECTORS]) {
    slm_ints part[TILE_ROWS][TILE_VECTORS];
#ifdef __GNUC__
#pragma GCC unroll 8
#endif
    for (int c = 0; c < 8; c++) {
        slm_ints a[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++) a[r] = broadcast4(values[r] + k + 4 * c);
        for (int v = 0; v < TILE_VECTORS; v++) {
            slm_ints w = slm_load_once(columns + (c * PANEL_WIDTH + v * SLM_LANES) * 4);
            for (int r = 0; r < TILE_ROWS; r++) {
                if (c == 0) part[r][v] = start(sums[r][v], w, a[r]);
                else step(&part[r][v], w, a[r]);
            }
        }
    }
    for (int r = 0; r < TILE_ROWS; r++)
        for (int v = 0; v < TILE_VECTORS; v++) sums[r][v] = finish(sums[r][v], part[r][v]);
}

/* Adds groups g0 .. g1 - 1 of TILE_ROWS tokens by PANEL_WIDTH outputs to acc (TILE_ROWS, PANEL_WIDTH), which group 0 begins. */
static inline void tile(const uint8_t *panel, const float *scales, const slm_act_row *rows, int64_t group, int64_t g0, int64_t g1,
                        float *acc) {
    const int8_t *values[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; r++) values[r] = rows[r].values;
    for (int64_t g = g0; g < g1; g++) {
        slm_ints sums[TILE_ROWS][TILE_VECTORS];
        for (int r = 0; r < TILE_ROWS; r++)
            for (int v = 0; v < TILE_VECTORS; v++) sums[r][v] = group_start(rows + r, g);
        for (int64_t k = g * group; k < (g + 1) * group; k += 32) tile32(panel + k * PANEL_WIDTH, values, k, sums);
        for (int v = 0; v < TILE_VECTORS; v++) {
            slm_floats s = slm_load_floats(scales + g * PANEL_WIDTH + v * SLM_LANES);
            for (int r = 0; r < TILE_ROWS; r++) {
                float *o = acc + r * PANEL_WIDTH + v * SLM_LANES;
                slm_store_floats(o, add_group(g == 0 ? slm_every_float(0) : slm_load_floats(o), sums[r][v], s, rows + r, g));
            }
        }
    }
}

/* Lays out the groups g0 .. g1 - 1 of a panel, [kp / 4][PANEL_WIDTH][4 inputs], with the first of them all scales,
 * [groups][PANEL_WIDTH]. */
static inline void fill_panel(const slm_matrix *w, int64_t j, int64_t n1, int64_t g0, int64_t g1, uint8_t *panel, float *scales) {
    for (int v = 0; v < TILE_VECTORS; v++) {
        int64_t first = j + v * SLM_LANES < n1 ? j + v * SLM_LANES : n1 - 1;
        lane_rows l = lane_rows_at(w, first, n1);
        if (g0 == 0) widen_scales(w, first, n1, scales + v * SLM_LANES, PANEL_WIDTH);
        for (int64_t b = g0 * w->group / 32; b < g1 * w->group / 32; b++) {
            slm_ints column[8];
            prefetch_ahead(&l, b);
            load32(l.rows, b, column);
            for (int c = 0; c < 8; c++) slm_store_ints(panel + ((b * 8 + c) * PANEL_WIDTH + v * SLM_LANES) * 4, column[c]);
        }
    }
}

/* Adds the groups g0 .. g1 - 1 of m tokens from i0 on, at most BATCH_ROWS, to acc (BATCH_ROWS, PANEL_WIDTH), as tile() does. */
static inline void run_batch(const slm_matrix *w, const uint8_t *panel, const float *scales, int64_t g0, int64_t g1, const void *x,
                             size_t x_stride, int64_t i0, int64_t m, float *acc) {
    for (int64_t i = 0; i < m; i += TILE_ROWS) {
        slm_act_row rows[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++) rows[r] = slm_act_row_at(w, x, x_stride, i0 + (i + r < m ? i + r : m - 1));
        tile(panel, scales, rows, w->group, g0, g1, acc + i * PANEL_WIDTH);
    }
}

static inline void linear_many(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                               int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    const int64_t groups = slm_groups(w->k, w->group), step = PANEL_INPUTS / w->group;
    uint8_t *panel = scratch;
    float *scales = (float *)(panel + groups * w->group * PANEL_WIDTH);
    _Alignas(64) float acc[BATCH_ROWS * PANEL_WIDTH];
    for (int64_t j = n0; j < n1; j += PANEL_WIDTH)
        for (int64_t i0 = 0; i0 < m; i0 += BATCH_ROWS) {
            int64_t rows = m - i0 < BATCH_ROWS ? m - i0 : BATCH_ROWS, width = n1 - j < PANEL_WIDTH ? n1 - j : PANEL_WIDTH;
            for (int64_t g = 0; g < groups; g += step) {
                int64_t stop = g + step < groups ? g + step : groups;
                if (i0 == 0) fill_panel(w, j, n1, g, stop, panel, scales); /* the first batch finds it in the cache */
                run_batch(w, panel, scales, g, stop, x, x_stride, i0, rows, acc);
            }
            for (int64_t i = 0; i < rows; i++)
                slm_store_outputs(acc + i * PANEL_WIDTH, width, w->scale, y + (i0 + i) * y_stride + j, bias ? bias + j : NULL,
                                  accumulate);
        }
}

static inline void linear_columns(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                                  int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m <= FEW_ROWS) linear_few(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
    else linear_many(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}

#endif
