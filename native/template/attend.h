/* Attention over one block: scores of all queries, their softmax, weighted sums of values. The including file defines the instruction set:
 *
 *     VEC, LANES                      a vector of float
 *     ZERO(), SET1(x)                 all 0; all x
 *     LOAD(p), STORE(p, v)            LANES floats
 *     ADD, SUB, MUL, DIV, MAX(a, b)   MAX of a NaN and a number may be either
 *     FMA_SCALAR(acc, v, x)           acc + v * x
 *     EXP(v), TANH(v)
 *     WITHIN(v, first, stop, other)   lanes first..stop-1 of v, elsewhere of other
 *     SUM(v), LARGEST(v)              over the lanes
 */
#include "kv_rows.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOGETHER = 4 }; /* queries that share the loads of keys and values */

/* The rows that any query sees. */
INLINE slm_seen seen_by_any(const slm_attend *a) {
    slm_seen any = {SLM_KV_BLOCK, 0};
    for (int64_t h = 0; h < a->n_q; h++) {
        if (a->seen[h].first == a->seen[h].stop) continue;
        if (a->seen[h].first < any.first) any.first = a->seen[h].first;
        if (a->seen[h].stop > any.stop) any.stop = a->seen[h].stop;
    }
    return any.stop ? any : (slm_seen){0, 0};
}

/* Widened to whole panels: rows that were never written may be among them. */
INLINE slm_seen whole_panels(slm_seen seen) {
    int32_t stop = (seen.stop + SLM_KV_LANES - 1) / SLM_KV_LANES * SLM_KV_LANES;
    return (slm_seen){seen.first / SLM_KV_LANES * SLM_KV_LANES, stop};
}

/* Has values on their way while keys are scored: each panel of keys, `bytes` from `at` on, asks for as many. */
INLINE void fetch_values(const slm_attend *a, int64_t at, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch((const char *)a->rows.values + at + b);
}

/* Does a vector from row j on have lanes outside? */
INLINE int is_cut(slm_seen seen, int32_t j) { return j < seen.first || j + LANES > seen.stop; }

/* Scores of whole panels `all` become weights exp(score - max), 0 outside those seen. Rows have their lanes by position, so that the order of
 * additions is that of positions. */
static void soften(float *scores, slm_seen all, slm_seen seen, float softcap, float *max, float *sum) {
    VEC top = SET1(-__builtin_inff()), total = ZERO();
    for (int32_t j = all.first; j < all.stop; j += LANES) {
        VEC v = LOAD(scores + j);
        if (softcap != 0) v = MUL(SET1(softcap), TANH(DIV(v, SET1(softcap))));
        if (is_cut(seen, j)) v = WITHIN(v, seen.first - j, seen.stop - j, SET1(-__builtin_inff()));
        top = MAX(top, v);
        STORE(scores + j, v);
    }
    *max = LARGEST(top);
    VEC shift = SET1(seen.first < seen.stop ? *max : 0); /* nothing seen: all weights 0 */
    for (int32_t j = all.first; j < all.stop; j += LANES) {
        VEC v = EXP(SUB(LOAD(scores + j), shift));
        total = ADD(total, v);
        STORE(scores + j, v);
    }
    *sum = SUM(total);
}

/* Scores of all queries with whole panels of rows; then sums of values by weights, over the rows that any query sees. */
typedef void score_fn(const slm_attend *a, slm_seen all, float *scores);
typedef void gather_fn(const slm_attend *a, slm_seen any, float *weights);

/* Scores and weights: (n_q, SLM_KV_BLOCK). */
INLINE void attend(const slm_attend *a, score_fn *score, gather_fn *gather) {
    float *scores = (float *)a->scratch;
    slm_seen any = seen_by_any(a), all = whole_panels(any);
    score(a, all, scores);
    for (int64_t h = 0; h < a->n_q; h++)
        soften(scores + h * SLM_KV_BLOCK, all, a->seen[h], a->softcap, a->max + h, a->sum + h);
    gather(a, any, scores);
}
