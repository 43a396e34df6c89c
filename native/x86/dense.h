/* Linear over float weights: tiles of 4 outputs by a few tokens, each with one vector of partial sums that runs along the inputs, so
 * a result does not depend on the tile it was computed in. The including file defines the instruction set:
 *
 *     VEC, LANES                  a vector of float
 *     ZERO(), FMA(a, b, c)        0;  a * b + c
 *     LOAD(p), LOAD_PART(p, n)    LANES values;  the first n, the rest 0
 *     LOAD_HALF(p), LOAD_HALF_PART(p, n)   the same from half precision
 *     SUM4(a, b, c, d)            __m128 of their sums
 *     TOKENS                      tokens of a tile, 2..6
 */
#include <immintrin.h>

#include "rows.h"

#define INLINE static inline __attribute__((always_inline))

/* Activations stay in the second-level cache while the weights pass: bytes of them in a block of tokens. */
enum { OUTPUTS = 4, BLOCK_BYTES = 512 * 1024 };

INLINE VEC load_weight(const void *row, int64_t k, int half) {
    return half ? LOAD_HALF((const uint16_t *)row + k) : LOAD((const float *)row + k);
}

INLINE VEC load_weight_part(const void *row, int64_t k, int64_t n, int half) {
    return half ? LOAD_HALF_PART((const uint16_t *)row + k, n) : LOAD_PART((const float *)row + k, n);
}

/* sums[i] = dot products of x[i] with 4 weight rows. */
INLINE void dot_tile(const void *const w[OUTPUTS], int half, const float *const *x, int tokens, int64_t k, float (*sums)[OUTPUTS]) {
    VEC acc[TOKENS][OUTPUTS];
    for (int i = 0; i < tokens; i++)
        for (int j = 0; j < OUTPUTS; j++) acc[i][j] = ZERO();
    int64_t c = 0;
    for (; c + LANES <= k; c += LANES) {
        VEC a[TOKENS];
        for (int i = 0; i < tokens; i++) a[i] = LOAD(x[i] + c);
        for (int j = 0; j < OUTPUTS; j++) {
            VEC b = load_weight(w[j], c, half);
            for (int i = 0; i < tokens; i++) acc[i][j] = FMA(a[i], b, acc[i][j]);
        }
    }
    if (c < k)
        for (int j = 0; j < OUTPUTS; j++) {
            VEC b = load_weight_part(w[j], c, k - c, half);
            for (int i = 0; i < tokens; i++) acc[i][j] = FMA(LOAD_PART(x[i] + c, k - c), b, acc[i][j]);
        }
    for (int i = 0; i < tokens; i++) _mm_storeu_ps(sums[i], SUM4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]));
}

/* As dot_tile with a number of tokens known only at run time, 1..TOKENS. */
INLINE void dot_tokens(const void *const w[OUTPUTS], int half, const float *const *x, int64_t tokens, int64_t k,
                       float (*sums)[OUTPUTS]) {
    switch (tokens) {
    case 1: dot_tile(w, half, x, 1, k, sums); break;
    case 2: dot_tile(w, half, x, 2, k, sums); break;
#if TOKENS > 3
    case 3: dot_tile(w, half, x, 3, k, sums); break;
    case 4: dot_tile(w, half, x, 4, k, sums); break;
    case 5: dot_tile(w, half, x, 5, k, sums); break;
#endif
    default: dot_tile(w, half, x, TOKENS, k, sums);
    }
}

typedef struct dense_call {
    const slm_matrix *w;
    const void *x;
    size_t x_stride;
    float *y;
    int64_t y_stride;
    const float *bias;
    int accumulate;
} dense_call;

/* Four outputs from j (count of them valid) for tokens i0..i1-1. */
INLINE void dense_rows(const dense_call *c, const void *const w[OUTPUTS], int half, int64_t j, int64_t count, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; i += TOKENS) {
        int64_t tokens = i1 - i < TOKENS ? i1 - i : TOKENS;
        const float *x[TOKENS];
        float sums[TOKENS][OUTPUTS];
        for (int64_t t = 0; t < tokens; t++) x[t] = (const float *)((const char *)c->x + (size_t)(i + t) * c->x_stride);
        dot_tokens(w, half, x, tokens, c->w->k, sums);
        for (int64_t t = 0; t < tokens; t++)
            slm_store_outputs(sums[t], count, c->y + (i + t) * c->y_stride + j, c->bias ? c->bias + j : NULL, c->accumulate);
    }
}

/* scratch: NULL, or where four half-precision rows are widened once for all tokens of a block. */
INLINE void dense_linear(const dense_call *c, int half, int64_t n0, int64_t n1, int64_t m, float *scratch) {
    int64_t k = c->w->k, stride = (k + LANES - 1) / LANES * LANES, row_bytes = k * (half ? 2 : 4);
    int64_t block = BLOCK_BYTES / (k * 4) / TOKENS * TOKENS;
    if (block < TOKENS) block = TOKENS;
    for (int64_t i = 0; i < m; i += block) {
        int64_t end = i + block < m ? i + block : m;
        for (int64_t j = n0; j < n1; j += OUTPUTS) {
            int64_t count = n1 - j < OUTPUTS ? n1 - j : OUTPUTS;
            const void *w[OUTPUTS]; /* past the end the last row is repeated, and its result dropped */
            for (int64_t r = 0; r < OUTPUTS; r++)
                w[r] = (const char *)c->w->data + (j + (r < count ? r : count - 1)) * row_bytes;
            if (!half || end - i <= TOKENS) {
                dense_rows(c, w, half, j, count, i, end);
                continue;
            }
            for (int r = 0; r < OUTPUTS; r++) {
                float *out = scratch + r * stride;
                int64_t p = 0;
                for (; p + LANES <= k; p += LANES) STORE(out + p, LOAD_HALF((const uint16_t *)w[r] + p));
                if (p < k) STORE(out + p, LOAD_HALF_PART((const uint16_t *)w[r] + p, k - p));
                w[r] = out;
            }
            dense_rows(c, w, 0, j, count, i, end);
        }
    }
}
