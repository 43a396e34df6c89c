/* Scores and weighted sums over rows of q8, behind template/attend.h. Integers are exact, so every instruction set has the same sums. The
 * including file also defines
 *
 *     TILE_PANELS               panels at once, 1 or 2
 *     KEY_HEADS, VALUE_HEADS    queries at once at most, 2..8
 *     dot_keys, dot_values(c, heads, out)
 *                               out[h] = sum over slices of TILE_PANELS panels, in the order of their lanes, of slice times c->x[h][slice];
 *                               there is a multiple of 4 of them.
 *     MAGNITUDE(x, n)           the largest |x|, of a multiple of 16
 *     WEIGHTS_AT_ONCE           16, or more
 *     round_queries, round_weights(x, inverse, out, i)
 *                               16 values, or WEIGHTS_AT_ONCE, x * inverse, within the limits, to places i, i + 1, .. of a row as dot_keys and
 *                               dot_values read it, of two bytes for each place
 */
#include "attend_rounding.h"

enum { TILE_VECTORS = TILE_PANELS * BYTE_VECTORS, TILE_LANES = TILE_PANELS * SLM_KV_BYTE_LANES };

typedef void dot_fn(const slm_panel_call *c, int heads, VEC (*out)[TILE_VECTORS]);

/* A float is its integer times the scale. */
INLINE float inverse_of(float peak, float limit) { return peak >= SLM_ATTEND_TINY ? limit / peak : 0; }

INLINE void run_tile(slm_panel_call c, int heads, dot_fn *dot) {
    VEC sums[8][TILE_VECTORS];
    dot(&c, heads, sums);
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < TILE_VECTORS && v < c.panels * BYTE_VECTORS; v++) {
            VEC scale = SET1(c.row_scales[h]);
            if (c.lane_scales) scale = MUL(LOAD(c.lane_scales + v * LANES), scale);
            STORE(c.out + h * c.out_stride + v * LANES, MUL(sums[h][v], scale));
        }
}

/* How many of the next tile's panels there are with so many lanes left. */
INLINE int64_t panels_of(int64_t lanes) { return lanes < TILE_LANES ? lanes / SLM_KV_BYTE_LANES : TILE_PANELS; }

/* In tiles of about the same size, of `most` heads at most. */
INLINE void run_panels(slm_panel_call c, int64_t n_q, int most, dot_fn *dot) {
    int64_t tiles = (n_q + most - 1) / most;
    for (; tiles > 0; tiles--) {
        int64_t heads = (n_q + tiles - 1) / tiles;
        if (heads == 1) run_tile(c, 1, dot);
        else if (most > 2 && heads == 2) run_tile(c, 2, dot);
        else if (most > 3 && heads == 3) run_tile(c, 3, dot);
        else if (most > 4 && heads == 4) run_tile(c, 4, dot);
        else if (most > 5 && heads == 5) run_tile(c, 5, dot);
        else if (most > 6 && heads == 6) run_tile(c, 6, dot);
        else if (most > 7 && heads == 7) run_tile(c, 7, dot);
        else run_tile(c, most, dot);
        n_q -= heads;
        c.x += heads * c.stride;
        c.row_scales += heads;
        c.out += heads * c.out_stride;
        c.ahead = (slm_asking){(const char *)c.panel, 0, 0};
    }
}

/* Scales: (n_q). */
typedef struct rounded_rows {
    float *weight_scales, *query_scales;
    uint8_t *weights, *queries; /* (n_q, SLM_KV_BLOCK), (n_q, width) places */
} rounded_rows;

INLINE rounded_rows rounded_in(const slm_attend *a) {
    float *scales = (float *)a->scratch + a->n_q * SLM_KV_BLOCK;
    uint8_t *weights = (uint8_t *)(scales + a->n_q * SLM_KV_LANES);
    return (rounded_rows){scales, scales + a->n_q, weights, weights + a->n_q * SLM_KV_BLOCK * 2};
}

/* The bytes of each run of the next block that are asked for in each phase: about as many in a moment, as a core waits for only so many lines.
 * Each run is asked for a line SOFTEN_TURNS times while a head's scores are softened, and while keys are scored, or values gathered, as often as
 * 64 SLM_RUNS bytes are read. */
typedef struct asked_shares {
    int64_t scoring, softening, gathering;
} asked_shares;

enum { SOFTEN_TURNS = SLM_KV_BLOCK / SLM_KV_LANES / 2 };

INLINE asked_shares asked_in(const slm_attend *a) {
    int64_t run = (int64_t)slm_kv_head_bytes(SLM_Q8, a->d) / SLM_RUNS, most = a->n_q * SOFTEN_TURNS * 64;
    int64_t softening = run / 4 < most ? run / 4 : most, scoring = (run - softening) / 2;
    return (asked_shares){scoring, softening, run - softening - scoring};
}

/* From so many bytes of each run on, so many more each turn. */
INLINE slm_asking asking_after(const slm_attend *a, int64_t bytes, int64_t step) {
    if (!a->next.keys) return (slm_asking){(const char *)a->rows.keys, 0, 0};
    return (slm_asking){(const char *)a->next.key_scales + bytes, (int64_t)slm_kv_head_bytes(SLM_Q8, a->d) / SLM_RUNS, step};
}

static slm_asking asking_of(const slm_attend *a, int64_t *further) {
    asked_shares s = asked_in(a);
    *further = a->next.keys ? s.softening / a->n_q : 0;
    return asking_after(a, s.scoring, s.softening / (SOFTEN_TURNS * a->n_q));
}

INLINE void round_all_queries(const slm_attend *a, rounded_rows r) {
    int64_t width = slm_kv_width(a->d);
    for (int64_t h = 0; h < a->n_q; h++) {
        const float *q = a->q + h * width;
        float peak = MAGNITUDE(q, width), inverse = inverse_of(peak, SLM_QUERY_LIMIT);
        for (int64_t i = 0; i < width; i += 16) round_queries(q + i, inverse, r.queries + h * width * 2, i);
        r.query_scales[h] = peak / SLM_QUERY_LIMIT;
    }
}

APART void score(const slm_attend *a, slm_seen all, float *scores) {
    rounded_rows r = rounded_in(a);
    asked_shares s = asked_in(a);
    int64_t width = slm_kv_width(a->d), step = s.scoring * SLM_RUNS / (4 * width);
    if (!a->resumed) round_all_queries(a, r);
    for (int64_t j = all.first; j < all.stop; j += TILE_LANES) {
        slm_panel_call call = {.panel = (const int8_t *)a->rows.keys + j * width,
                               .panels = panels_of(all.stop - j),
                               .panel_bytes = SLM_KV_BYTE_LANES * width,
                               .slices = width / SLM_KV_BYTE_STEPS,
                               .x = r.queries,
                               .stride = width * 2,
                               .row_scales = r.query_scales,
                               .lane_scales = a->rows.key_scales + j,
                               .out = scores + j,
                               .out_stride = SLM_KV_BLOCK,
                               .ahead = asking_after(a, s.scoring * j / SLM_KV_BLOCK, step)};
        run_panels(call, a->n_q, KEY_HEADS, dot_keys);
    }
}

/* Groups of weights begin where they would in a whole block: what is rounded beside the rows is not used. */
INLINE void round_row(const float *x, slm_seen rows, float inverse, uint8_t *out) {
    for (int64_t i = rows.first / WEIGHTS_AT_ONCE * WEIGHTS_AT_ONCE; i < rows.stop; i += WEIGHTS_AT_ONCE) round_weights(x + i, inverse, out, i);
}

APART void gather(const slm_attend *a, slm_seen any, const float *weights, const float *peaks) {
    slm_seen all = whole_panels(any);
    rounded_rows r = rounded_in(a);
    int64_t width = slm_kv_width(a->d), rows = all.stop - all.first;
    asked_shares s = asked_in(a);
    int64_t step = s.gathering * SLM_RUNS / (4 * width), lane_bytes = s.gathering / width;
    for (int64_t h = 0; h < a->n_q; h++) {
        round_row(weights + h * SLM_KV_BLOCK, all, inverse_of(peaks[h], SLM_WEIGHT_LIMIT), r.weights + h * SLM_KV_BLOCK * 2);
        r.weight_scales[h] = peaks[h] / SLM_WEIGHT_LIMIT;
    }
    for (int64_t i = 0; i < a->d; i += TILE_LANES) {
        const int8_t *panel = (const int8_t *)a->rows.values + i * SLM_KV_BLOCK + all.first * SLM_KV_BYTE_LANES;
        slm_panel_call call = {.panel = panel,
                               .panels = panels_of(width - i),
                               .panel_bytes = SLM_KV_BYTE_LANES * SLM_KV_BLOCK,
                               .slices = rows / SLM_KV_BYTE_STEPS,
                               .x = r.weights + 2 * all.first,
                               .stride = SLM_KV_BLOCK * 2,
                               .row_scales = r.weight_scales,
                               .out = a->out.acc + i,
                               .out_stride = width,
                               .ahead = asking_after(a, s.scoring + s.softening + lane_bytes * i, step)};
        run_panels(call, a->n_q, VALUE_HEADS, dot_values);
    }
}
