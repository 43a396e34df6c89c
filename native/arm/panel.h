/* Prefill of blockwise weights: unpack a panel of weight rows once, then run it over all tokens.
 *
 * A panel is SLM_LINEAR_STEP outputs in strips of 8. A strip holds signed weights, zero point taken off, in the order that the tile of
 * the instruction set reads, then come the scales, [strip][groups][8].
 * Everything inlines into the one kernel that includes it.
 */
#ifndef SLM_ARM_PANEL_H
#define SLM_ARM_PANEL_H

#include "float_neon.h"
#include "rows.h"

#define SLM_INLINE static inline __attribute__((always_inline))

enum {
    SLM_STRIP = 8,                     /* outputs of a tile */
    SLM_TILE_TOKENS = 4,
    SLM_TOKEN_BLOCK_BYTES = 128 * 1024 /* of activations that the second-level cache keeps while a panel passes */
};

/* 32 weights (block `index` of a row), signed, in the order of the packed activations. */
typedef int8x16x2_t slm_unpack_fn(const uint8_t *row, int64_t index);

/* Puts 16 inputs of the strip's 8 rows where the tile wants them: 128 bytes. */
typedef void slm_arrange_fn(const int8x16_t *v, int8_t *strip);

/* Dot products of `rows` (1 to SLM_TILE_TOKENS) tokens with the outputs of a strip, into tile (rows, SLM_STRIP); rows and group are
 * constants. */
typedef void slm_tile_fn(const int8_t *strip, const float *scales, const slm_act_row *a, int rows, int64_t group, int64_t groups,
                         float *tile);

typedef struct slm_panel_kernel {
    int bits; /* of a weight as stored */
    slm_unpack_fn *unpack;
    slm_arrange_fn *arrange;
    slm_tile_fn *tile;
} slm_panel_kernel;

static inline int8x16x2_t slm_unpack_q4(const uint8_t *row, int64_t index) {
    uint8x16_t bytes = vld1q_u8(row + index * 16);
    int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
    return (int8x16x2_t){{vsubq_s8(low, vdupq_n_s8(8)), vsubq_s8(high, vdupq_n_s8(8))}};
}

static inline int8x16x2_t slm_unpack_q8(const uint8_t *row, int64_t index) {
    uint8x16_t sign = vdupq_n_u8(128), low = vld1q_u8(row + index * 32), high = vld1q_u8(row + index * 32 + 16);
    return (int8x16x2_t){{vreinterpretq_s8_u8(veorq_u8(low, sign)), vreinterpretq_s8_u8(veorq_u8(high, sign))}};
}

/* Outputs j.. of w into a strip; past the last output (n1 - 1) it is repeated, and its results are dropped later. */
SLM_INLINE void slm_fill_strip(const slm_matrix *w, slm_panel_kernel kernel, int64_t j, int64_t n1, int8_t *strip, float *scales) {
    int64_t groups = slm_groups(w->k, w->group), blocks = groups * w->group / 32;
    const uint8_t *rows[SLM_STRIP];
    for (int r = 0; r < SLM_STRIP; r++) {
        int64_t row = j + r < n1 ? j + r : n1 - 1;
        rows[r] = (const uint8_t *)w->data + row * (blocks * 4 * kernel.bits);
        for (int64_t g = 0; g < groups; g++) scales[g * SLM_STRIP + r] = slm_load_half1(w->scales + row * groups + g);
    }
    for (int64_t b = 0; b < blocks; b++) {
        int8x16_t v[2][SLM_STRIP];
        for (int r = 0; r < SLM_STRIP; r++) {
            int8x16x2_t both = kernel.unpack(rows[r], b);
            v[0][r] = both.val[0];
            v[1][r] = both.val[1];
        }
        kernel.arrange(v[0], strip + b * 32 * SLM_STRIP);
        kernel.arrange(v[1], strip + b * 32 * SLM_STRIP + 16 * SLM_STRIP);
    }
}

/* A body for each group size and number of tokens. */
SLM_INLINE void slm_tile_rows(slm_tile_fn *tile, const int8_t *strip, const float *scales, const slm_act_row *a, int rows, int64_t group,
                              int64_t groups, float *out) {
    if (group == 32) tile(strip, scales, a, rows, 32, groups, out);
    else if (group == 64) tile(strip, scales, a, rows, 64, groups, out);
    else tile(strip, scales, a, rows, 128, groups, out);
}

SLM_INLINE void slm_tile_tokens(slm_tile_fn *tile, const int8_t *strip, const float *scales, const slm_act_row *a, int64_t rows,
                                int64_t group, int64_t groups, float *out) {
    switch (rows) {
    case 1: slm_tile_rows(tile, strip, scales, a, 1, group, groups, out); break;
    case 2: slm_tile_rows(tile, strip, scales, a, 2, group, groups, out); break;
    case 3: slm_tile_rows(tile, strip, scales, a, 3, group, groups, out); break;
    default: slm_tile_rows(tile, strip, scales, a, SLM_TILE_TOKENS, group, groups, out);
    }
}

typedef struct slm_panel_call {
    const slm_matrix *w;
    const void *x;
    size_t x_stride;
    float *y;
    int64_t y_stride;
    const float *bias;
    int accumulate;
} slm_panel_call;

/* `width` outputs from j, whose strip is given, for tokens i0..i1-1. */
SLM_INLINE void slm_run_strip(const slm_panel_call *c, slm_tile_fn *tile, const int8_t *strip, const float *scales, int64_t j,
                              int64_t width, int64_t i0, int64_t i1) {
    int64_t group = c->w->group, groups = slm_groups(c->w->k, group);
    for (int64_t i = i0; i < i1; i += SLM_TILE_TOKENS) {
        int64_t rows = i1 - i < SLM_TILE_TOKENS ? i1 - i : SLM_TILE_TOKENS;
        slm_act_row a[SLM_TILE_TOKENS];
        float out[SLM_TILE_TOKENS * SLM_STRIP];
        for (int64_t r = 0; r < rows; r++) a[r] = slm_act_row_at(c->w, c->x, c->x_stride, i + r);
        slm_tile_tokens(tile, strip, scales, a, rows, group, groups, out);
        for (int64_t r = 0; r < rows; r++)
            slm_store_outputs(out + r * SLM_STRIP, width, c->w->scale, c->y + (i + r) * c->y_stride + j,
                              c->bias ? c->bias + j : NULL, c->accumulate);
    }
}

SLM_INLINE void slm_linear_panels(const slm_panel_call *c, slm_panel_kernel kernel, int64_t n0, int64_t n1, int64_t m, void *scratch) {
    int64_t groups = slm_groups(c->w->k, c->w->group), strip_bytes = groups * c->w->group * SLM_STRIP;
    int8_t *panel = scratch;
    float *scales = (float *)(panel + strip_bytes * (SLM_LINEAR_STEP / SLM_STRIP));
    int64_t block = SLM_TOKEN_BLOCK_BYTES / (int64_t)c->x_stride / SLM_TILE_TOKENS * SLM_TILE_TOKENS;
    if (block < SLM_TILE_TOKENS) block = SLM_TILE_TOKENS;
    for (int64_t step = n0; step < n1; step += SLM_LINEAR_STEP) {
        int64_t end = n1 - step < SLM_LINEAR_STEP ? n1 : step + SLM_LINEAR_STEP;
        for (int64_t j = step, s = 0; j < end; j += SLM_STRIP, s++)
            slm_fill_strip(c->w, kernel, j, n1, panel + s * strip_bytes, scales + s * groups * SLM_STRIP);
        for (int64_t i = 0; i < m; i += block)
            for (int64_t j = step, s = 0; j < end; j += SLM_STRIP, s++)
                slm_run_strip(c, kernel.tile, panel + s * strip_bytes, scales + s * groups * SLM_STRIP, j,
                              end - j < SLM_STRIP ? end - j : SLM_STRIP, i, m - i < block ? m : i + block);
    }
}

#endif
