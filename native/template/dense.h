/* Linear over float weights: tiles of 4 outputs by a few tokens, each pair with one vector of partial sums that runs along the inputs,
 * so a result does not depend on the tile it was computed in. The including file defines the instruction set:
 *
 *     VEC, LANES                  a vector of float
 *     ZERO(), FMA(a, b, c)        0;  a * b + c
 *     LOAD(p), LOAD_PART(p, n)    LANES values;  the first n, the rest 0
 *     LOAD_HALF(p), LOAD_HALF_PART(p, n)   the same from half precision
 *     STORE(p, v)                 to an aligned place
 *     SUM4(out, a, b, c, d)       stores the 4 sums over their lanes
 *     TOKENS                      tokens of a tile: 3, 4 or 6
 */
#include "rows.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    QUAD = 4,                  /* outputs of a tile */
    QUADS = SLM_LINEAR_STEP / QUAD,
    CHUNK = 768,               /* inputs of a tile's tokens that the first-level cache keeps while a block of outputs passes */
    BLOCK_BYTES = 512 * 1024   /* of activations that the second-level cache keeps while all the weights pass */
};

typedef struct dense_call {
    const slm_matrix *w;
    const void *x;
    size_t x_stride;
    float *y;
    int64_t y_stride;
    const float *bias;
    int accumulate;
} dense_call;

/* sums[i][j] += x[i] * w[j] over inputs k0..k1-1; k1 ends a vector or the row. */
INLINE void dot_tile(const void *const *w, int half, const float *const *x, int tokens, int64_t k0, int64_t k1, VEC (*sums)[QUAD]) {
    VEC acc[TOKENS][QUAD];
    int64_t k = k0;
    for (int i = 0; i < tokens; i++)
        for (int j = 0; j < QUAD; j++) acc[i][j] = sums[i][j];
    for (; k + LANES <= k1; k += LANES)
        for (int j = 0; j < QUAD; j++) {
            VEC b = half ? LOAD_HALF((const uint16_t *)w[j] + k) : LOAD((const float *)w[j] + k);
            for (int i = 0; i < tokens; i++) acc[i][j] = FMA(LOAD(x[i] + k), b, acc[i][j]);
        }
    if (k < k1) {
        VEC rest[TOKENS];
        for (int i = 0; i < tokens; i++) rest[i] = LOAD_PART(x[i] + k, k1 - k);
        for (int j = 0; j < QUAD; j++) {
            VEC b = half ? LOAD_HALF_PART((const uint16_t *)w[j] + k, k1 - k) : LOAD_PART((const float *)w[j] + k, k1 - k);
            for (int i = 0; i < tokens; i++) acc[i][j] = FMA(rest[i], b, acc[i][j]);
        }
    }
    for (int i = 0; i < tokens; i++)
        for (int j = 0; j < QUAD; j++) sums[i][j] = acc[i][j];
}

/* As dot_tile with a number of tokens known only at run time, 1..TOKENS. */
INLINE void dot_tokens(const void *const *w, int half, const float *const *x, int64_t tokens, int64_t k0, int64_t k1,
                       VEC (*sums)[QUAD]) {
    switch (tokens) {
    case 1: dot_tile(w, half, x, 1, k0, k1, sums); break;
    case 2: dot_tile(w, half, x, 2, k0, k1, sums); break;
#if TOKENS > 3
    case 3: dot_tile(w, half, x, 3, k0, k1, sums); break;
#endif
#if TOKENS > 4
    case 4: dot_tile(w, half, x, 4, k0, k1, sums); break;
    case 5: dot_tile(w, half, x, 5, k0, k1, sums); break;
#endif
    default: dot_tile(w, half, x, TOKENS, k0, k1, sums);
    }
}

/* `count` outputs from j, whose rows are w, for 1..TOKENS tokens from i. */
INLINE void dense_tile(const dense_call *c, const void *const *w, int half, int64_t j, int64_t count, int64_t i, int64_t tokens,
                       int64_t chunk) {
    const float *x[TOKENS];
    VEC sums[QUADS][TOKENS][QUAD];
    int64_t quads = (count + QUAD - 1) / QUAD, k = c->w->k;
    for (int64_t t = 0; t < tokens; t++) x[t] = (const float *)((const char *)c->x + (size_t)(i + t) * c->x_stride);
    for (int64_t q = 0; q < quads; q++)
        for (int64_t t = 0; t < tokens; t++)
            for (int r = 0; r < QUAD; r++) sums[q][t][r] = ZERO();
    for (int64_t k0 = 0; k0 < k; k0 += chunk)
        for (int64_t q = 0; q < quads; q++)
            dot_tokens(w + q * QUAD, half, x, tokens, k0, k0 + chunk < k ? k0 + chunk : k, sums[q]);
    for (int64_t t = 0; t < tokens; t++) {
        float out[SLM_LINEAR_STEP];
        for (int64_t q = 0; q < quads; q++)
            SUM4(out + q * QUAD, sums[q][t][0], sums[q][t][1], sums[q][t][2], sums[q][t][3]);
        slm_store_outputs(out, count, c->w->scale, c->y + (i + t) * c->y_stride + j, c->bias ? c->bias + j : NULL, c->accumulate);
    }
}

/* Half-precision rows, in place, as aligned float32 rows in scratch. */
INLINE void widen_rows(const void **w, int64_t count, int64_t k, float *scratch) {
    int64_t stride = (k + LANES - 1) / LANES * LANES;
    for (int64_t r = 0; r < count; r++, scratch += stride) {
        int64_t p = 0;
        for (; p + LANES <= k; p += LANES) STORE(scratch + p, LOAD_HALF((const uint16_t *)w[r] + p));
        if (p < k) STORE(scratch + p, LOAD_HALF_PART((const uint16_t *)w[r] + p, k - p));
        w[r] = scratch;
    }
}

/* Outputs j..j+count-1 of tokens i0..i1-1. A single tile reads its weights once, from end to end; more keep to chunks. */
INLINE void dense_block(const dense_call *c, int half, int64_t j, int64_t count, int64_t i0, int64_t i1, float *scratch) {
    const void *w[SLM_LINEAR_STEP]; /* past the end the last row is repeated, and its result dropped */
    int64_t k = c->w->k, padded = (count + QUAD - 1) / QUAD * QUAD;
    for (int64_t r = 0; r < padded; r++)
        w[r] = (const char *)c->w->data + (j + (r < count ? r : count - 1)) * k * (half ? 2 : 4);
    if (i1 - i0 <= TOKENS) {
        dense_tile(c, w, half, j, count, i0, i1 - i0, k);
        return;
    }
    if (half) widen_rows(w, padded, k, scratch);
    for (int64_t i = i0; i < i1; i += TOKENS) dense_tile(c, w, 0, j, count, i, i1 - i < TOKENS ? i1 - i : TOKENS, CHUNK);
}

INLINE void dense_linear(const dense_call *c, int half, int64_t n0, int64_t n1, int64_t m, float *scratch) {
    int64_t block = BLOCK_BYTES / (c->w->k * (int64_t)sizeof(float)) / TOKENS * TOKENS;
    if (block < TOKENS) block = TOKENS;
    for (int64_t i = 0; i < m; i += block)
        for (int64_t j = n0; j < n1; j += SLM_LINEAR_STEP)
            dense_block(c, half, j, n1 - j < SLM_LINEAR_STEP ? n1 - j : SLM_LINEAR_STEP, i, i + block < m ? i + block : m, scratch);
}
