/* Scores and weighted sums over rows of q8, behind template/attend.h. Integers are exact, so every instruction set has the same sums. The
 * including file also defines
 *
 *     dot_quads(panel, quads, x, stride, heads, out)   out[h] = sum over quads of panel (quads, 8 lanes, 4) times x[h][quad]
 *     PEAK(x, n)                                       the largest |x|, of a multiple of 16
 *     ROUND(x, inverse, limit, out)                    16 values x * inverse, within -limit..limit, to int16
 */
#include "attend_rounding.h"

/* A float is its 16 bits times the scale. */
INLINE float round_row(const float *x, int64_t n, float limit, int16_t *out) {
    float peak = PEAK(x, n), inverse = peak >= SLM_ATTEND_TINY ? limit / peak : 0;
    for (int64_t i = 0; i < n; i += 16) ROUND(x + i, inverse, limit, out + i);
    return peak / limit;
}

INLINE void dot_some(const int8_t *panel, int64_t quads, const int16_t *x, int64_t stride, int heads, VEC (*out)[BYTE_VECTORS]) {
    switch (heads) {
        case 1: dot_quads(panel, quads, x, stride, 1, out); break;
        case 2: dot_quads(panel, quads, x, stride, 2, out); break;
        case 3: dot_quads(panel, quads, x, stride, 3, out); break;
        default: dot_quads(panel, quads, x, stride, TOGETHER, out);
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
    for (int64_t j = all.first; j < all.stop; j += SLM_KV_BYTE_LANES) {
        fetch_values(a, j * width, SLM_KV_BYTE_LANES * width);
        for (int64_t h = 0; h < a->n_q; h += TOGETHER) {
            VEC sums[TOGETHER][BYTE_VECTORS];
            int heads = a->n_q - h < TOGETHER ? (int)(a->n_q - h) : TOGETHER;
            dot_some((const int8_t *)a->rows.keys + j * width, width / 4, r.queries + h * width, width, heads, sums);
            for (int i = 0; i < heads; i++)
                for (int v = 0; v < BYTE_VECTORS; v++) {
                    VEC scale = MUL(LOAD(a->rows.key_scales + j + v * LANES), SET1(r.scales[h + i]));
                    STORE(scores + (h + i) * SLM_KV_BLOCK + j + v * LANES, MUL(sums[i][v], scale));
                }
        }
    }
}

/* Weights take over the scales of their rows' values. */
INLINE void scale_weights(const slm_attend *a, slm_seen all, slm_seen seen, float *weights) {
    for (int32_t j = all.first; j < all.stop; j += LANES) {
        VEC v = MUL(LOAD(weights + j), LOAD(a->rows.value_scales + j));
        if (is_cut(seen, j)) v = WITHIN(v, seen.first - j, seen.stop - j, ZERO()); /* scales of other rows may be anything */
        STORE(weights + j, v);
    }
}

static void gather(const slm_attend *a, slm_seen any, float *weights) {
    slm_seen all = whole_panels(any);
    rounded_rows r = rounded_in(a);
    int64_t width = slm_kv_width(a->d), rows = all.stop - all.first;
    for (int64_t h = 0; h < a->n_q; h++) {
        float *row = weights + h * SLM_KV_BLOCK;
        scale_weights(a, all, a->seen[h], row);
        r.scales[h] = round_row(row + all.first, rows, SLM_WEIGHT_LIMIT, r.weights + h * SLM_KV_BLOCK + all.first);
    }
    for (int64_t i = 0; i < a->d; i += SLM_KV_BYTE_LANES)
        for (int64_t h = 0; h < a->n_q; h += TOGETHER) {
            VEC sums[TOGETHER][BYTE_VECTORS];
            int heads = a->n_q - h < TOGETHER ? (int)(a->n_q - h) : TOGETHER;
            dot_some((const int8_t *)a->rows.values + i * SLM_KV_BLOCK + all.first * SLM_KV_BYTE_LANES, rows / 4,
                     r.weights + h * SLM_KV_BLOCK + all.first, SLM_KV_BLOCK, heads, sums);
            for (int k = 0; k < heads; k++)
                for (int v = 0; v < BYTE_VECTORS; v++)
                    STORE(a->acc + (h + k) * width + i + v * LANES, MUL(sums[k][v], SET1(r.scales[h + k])));
        }
}
