/* Scores and weighted sums over rows of q8, behind template/attend.h. Integers are exact, so every instruction set has the same sums. The
 * including file also defines
 *
 *     TILE_HEADS                queries at once at most, 4..8
 *     dot_slices(panel, slices, x, stride, heads, ahead, out)
 *                               out[h] = sum over slices of panel (slices, SLM_KV_BYTE_LANES, SLM_KV_BYTE_STEPS) times x[h][slice]; there
 *                               is a multiple of 4 of them. Fetches as much of ahead.
 *     PEAK(x, n)                the largest |x|, of a multiple of 16
 *     ROUND(x, inverse, limit, out)
 *                               16 values x * inverse, within -limit..limit, to int16
 */
#include "attend_rounding.h"

/* A float is its 16 bits times the scale. */
INLINE float round_row(const float *x, int64_t n, float limit, int16_t *out) {
    float peak = PEAK(x, n), inverse = peak >= SLM_ATTEND_TINY ? limit / peak : 0;
    for (int64_t i = 0; i < n; i += 16) ROUND(x + i, inverse, limit, out + i);
    return peak / limit;
}

/* Dot products of n_q rounded rows x, stride apart, with the lanes of a panel. Integers times their rows' scales, and times those of the
 * lanes (NULL: none), go to out, out_stride apart. */
typedef struct panel_call {
    const int8_t *panel;
    int64_t slices;
    const int16_t *x;
    int64_t stride;
    const float *row_scales, *lane_scales;
    float *out;
    int64_t out_stride;
    const char *ahead;
} panel_call;

INLINE void run_tile(panel_call c, int heads) {
    VEC sums[TILE_HEADS][BYTE_VECTORS];
    dot_slices(c.panel, c.slices, c.x, c.stride, heads, c.ahead, sums);
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < BYTE_VECTORS; v++) {
            VEC scale = SET1(c.row_scales[h]);
            if (c.lane_scales) scale = MUL(LOAD(c.lane_scales + v * LANES), scale);
            STORE(c.out + h * c.out_stride + v * LANES, MUL(sums[h][v], scale));
        }
}

/* In tiles of about the same size. */
INLINE void run_panel(panel_call c, int64_t n_q) {
    int64_t tiles = (n_q + TILE_HEADS - 1) / TILE_HEADS;
    for (; tiles > 0; tiles--) {
        int64_t heads = (n_q + tiles - 1) / tiles;
        if (heads == 1) run_tile(c, 1);
        else if (heads == 2) run_tile(c, 2);
        else if (heads == 3) run_tile(c, 3);
        else if (TILE_HEADS > 4 && heads == 4) run_tile(c, 4);
        else if (TILE_HEADS > 5 && heads == 5) run_tile(c, 5);
        else if (TILE_HEADS > 6 && heads == 6) run_tile(c, 6);
        else if (TILE_HEADS > 7 && heads == 7) run_tile(c, 7);
        else run_tile(c, TILE_HEADS);
        n_q -= heads;
        c.x += heads * c.stride;
        c.row_scales += heads;
        c.out += heads * c.out_stride;
        c.ahead = (const char *)c.panel;
    }
}

typedef struct rounded_rows {
    int16_t *queries, *weights; /* (n_q, width), (n_q, SLM_KV_BLOCK) */
    float *scales;              /* (n_q), of the ones at hand */
} rounded_rows;

INLINE rounded_rows rounded_in(const slm_attend *a) {
    int16_t *weights = (int16_t *)(void *)((float *)a->scratch + a->n_q * SLM_KV_BLOCK);
    int16_t *queries = weights + a->n_q * SLM_KV_BLOCK;
    return (rounded_rows){queries, weights, (float *)(void *)(queries + a->n_q * slm_kv_width(a->d))};
}

static void score(const slm_attend *a, slm_seen all, float *scores) {
    rounded_rows r = rounded_in(a);
    int64_t width = slm_kv_width(a->d);
    for (int64_t h = 0; h < a->n_q; h++)
        r.scales[h] = round_row(a->q + h * width, width, slm_query_limit(a->d), r.queries + h * width);
    fetch(a->rows.value_scales, SLM_KV_BLOCK * sizeof(float));
    for (int64_t j = all.first; j < all.stop; j += SLM_KV_BYTE_LANES) {
        panel_call call = {(const int8_t *)a->rows.keys + j * width,
                           width / SLM_KV_BYTE_STEPS,
                           r.queries,
                           width,
                           r.scales,
                           a->rows.key_scales + j,
                           scores + j,
                           SLM_KV_BLOCK,
                           ahead_of(a->rows.values, j * width, NULL)};
        run_panel(call, a->n_q);
    }
}

static void gather(const slm_attend *a, slm_seen any, float *weights) {
    slm_seen all = whole_panels(any);
    rounded_rows r = rounded_in(a);
    int64_t width = slm_kv_width(a->d), rows = all.stop - all.first;
    for (int64_t h = 0; h < a->n_q; h++)
        r.scales[h] = round_row(weights + h * SLM_KV_BLOCK + all.first, rows, SLM_WEIGHT_LIMIT, r.weights + h * SLM_KV_BLOCK + all.first);
    fetch(a->next.key_scales, SLM_KV_BLOCK * sizeof(float));
    for (int64_t i = 0; i < a->d; i += SLM_KV_BYTE_LANES) {
        const int8_t *panel = (const int8_t *)a->rows.values + i * SLM_KV_BLOCK + all.first * SLM_KV_BYTE_LANES;
        panel_call call = {panel, rows / SLM_KV_BYTE_STEPS, r.weights + all.first, SLM_KV_BLOCK, r.scales, NULL, a->acc + i, width,
                           ahead_of(a->next.keys, i * SLM_KV_BLOCK, panel)};
        run_panel(call, a->n_q);
    }
}
