/* The weight rows of neighbouring outputs, one for each lane, and how their sums of a group are scaled. */
#ifndef SLM_X86_LANE_ROWS_H
#define SLM_X86_LANE_ROWS_H

#include "rows.h"
#include "scales.h"

/* Outputs j .. j + SLM_LANES - 1; past the last one (n1 - 1) it is repeated, and its results are dropped. */
typedef struct lane_rows {
    const uint8_t *rows[SLM_LANES];
    int64_t row_bytes;
} lane_rows;

static inline lane_rows lane_rows_at(const slm_matrix *w, int64_t j, int64_t n1) {
    lane_rows l = {.row_bytes = slm_groups(w->k, w->group) * w->group / 32 * BLOCK_BYTES};
    for (int64_t r = 0; r < SLM_LANES; r++) l.rows[r] = (const uint8_t *)w->data + (j + r < n1 ? j + r : n1 - 1) * l.row_bytes;
    return l;
}

/* The scales of these rows as columns: [groups][stride]. */
static inline void widen_scales(const slm_matrix *w, int64_t j, int64_t n1, float *columns, int stride) {
    int64_t groups = slm_groups(w->k, w->group);
    const uint16_t *scales[SLM_LANES];
    for (int64_t r = 0; r < SLM_LANES; r++) scales[r] = w->scales + (j + r < n1 ? j + r : n1 - 1) * groups;
    for (int r = 0; r < SLM_LANES; r += 4) slm_widen_scales4(scales + r, groups, stride, columns + r);
}

/* While block b of these rows is computed, asks for as much of the rows that come next, in the order of memory: rows are too short,
 * and too many at a time, for the hardware to see where they go on. Always inline: gcc drops calls that do nothing but prefetch. */
static inline __attribute__((always_inline)) void prefetch_next(const lane_rows *l, int64_t b) {
    const char *next = (const char *)l->rows[0] + SLM_LANES * l->row_bytes + b * SLM_LANES * BLOCK_BYTES;
    for (int at = 0; at < SLM_LANES * BLOCK_BYTES; at += 64) _mm_prefetch(next + at, _MM_HINT_T0);
}

/* The same where a row is read once, from end to end. AHEAD_BYTES is how far ahead it asks at least, 0: as above. So far, lines are wanted in
 * the second-level cache: in the first, they displace the rows at hand, or are displaced by them before they are used. */
static inline __attribute__((always_inline)) void prefetch_ahead(const lane_rows *l, int64_t b) {
    if (AHEAD_BYTES == 0) prefetch_next(l, b);
    int64_t rows = SLM_LANES * l->row_bytes, ahead = rows > AHEAD_BYTES ? rows : AHEAD_BYTES;
    const char *next = (const char *)l->rows[0] + ahead + b * SLM_LANES * BLOCK_BYTES;
    for (int at = 0; AHEAD_BYTES && at < SLM_LANES * BLOCK_BYTES; at += 64) _mm_prefetch(next + at, _MM_HINT_T1);
}

/* acc + integers * (weight scales * activation scale), rounded after each operation as in `ref`. */
static inline slm_floats add_group(slm_floats acc, slm_ints sums, slm_floats scales, const slm_act_row *a, int64_t g) {
    return slm_add(acc, slm_mul(slm_to_floats(sums), slm_mul(scales, slm_every_float(a->scales[g]))));
}

static inline slm_ints group_start(const slm_act_row *a, int64_t g) {
    return slm_every_int(USE_CORRECTIONS ? a->corrections[g] : 0);
}

#endif
