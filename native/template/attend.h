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
#define PRAGMA(x) _Pragma(#x)
#define UNROLL(n) PRAGMA(GCC unroll n)

enum { VECTORS = SLM_KV_LANES / LANES, BYTE_VECTORS = SLM_KV_BYTE_LANES / LANES }; /* of a panel's lanes */

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

/* What is needed next is asked for while a panel is multiplied, as many bytes as are read of it: values while keys are scored, the next
 * block's keys while values are summed. A few lines at a time, as only so many can be on their way. Where nothing is needed, the panel
 * itself is asked for, which costs less than asking whether. */
INLINE const char *ahead_of(const void *from, int64_t at, const void *panel) { return from ? (const char *)from + at : (const char *)panel; }

INLINE void fetch(const void *from, int64_t bytes) {
    for (int64_t b = 0; from && b < bytes; b += 64) __builtin_prefetch((const char *)from + b);
}

/* Does the panel from row j on have lanes outside? */
INLINE int is_cut(slm_seen seen, int32_t j) { return j < seen.first || j + SLM_KV_LANES > seen.stop; }

INLINE VEC cut(slm_seen seen, int32_t j, VEC v, VEC other) { return WITHIN(v, seen.first - j, seen.stop - j, other); }

/* Scores of whole panels `all`, after the cap; -inf outside those seen. Returns the largest. */
INLINE float cap_scores(float *scores, slm_seen all, slm_seen seen, float softcap) {
    VEC none = SET1(-__builtin_inff()), top[VECTORS];
    for (int v = 0; v < VECTORS; v++) top[v] = none;
    for (int32_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        int outside = is_cut(seen, j);
        for (int v = 0; v < VECTORS; v++) {
            float *at = scores + j + v * LANES;
            VEC x = LOAD(at);
            if (softcap != 0) x = MUL(SET1(softcap), TANH(DIV(x, SET1(softcap))));
            if (outside) x = cut(seen, j + v * LANES, x, none);
            if (outside || softcap != 0) STORE(at, x);
            top[v] = MAX(top[v], x);
        }
    }
    for (int v = 1; v < VECTORS; v++) top[0] = MAX(top[0], top[v]);
    return LARGEST(top[0]);
}

/* Scores become weights exp(score - max), and their sum; then they take over the scales of their rows' values (NULL: none). Rows have
 * their lanes by position, so that the order of additions is that of positions. */
INLINE void soften(float *scores, slm_seen all, slm_seen seen, float softcap, const float *scales, float *max, float *sum) {
    *max = cap_scores(scores, all, seen, softcap);
    VEC shift = SET1(seen.first < seen.stop ? *max : 0), total[VECTORS]; /* nothing seen: all weights 0 */
    for (int v = 0; v < VECTORS; v++) total[v] = ZERO();
    for (int32_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        VEC x[VECTORS];
        for (int v = 0; v < VECTORS; v++) x[v] = EXP(SUB(LOAD(scores + j + v * LANES), shift));
        for (int v = 0; v < VECTORS; v++) total[v] = ADD(total[v], x[v]);
        for (int v = 0; scales && v < VECTORS; v++) x[v] = MUL(x[v], LOAD(scales + j + v * LANES));
        if (scales && is_cut(seen, j)) /* scales of other rows may be anything */
            for (int v = 0; v < VECTORS; v++) x[v] = cut(seen, j + v * LANES, x[v], ZERO());
        for (int v = 0; v < VECTORS; v++) STORE(scores + j + v * LANES, x[v]);
    }
    for (int v = 1; v < VECTORS; v++) total[0] = ADD(total[0], total[v]);
    *sum = SUM(total[0]);
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
        soften(scores + h * SLM_KV_BLOCK, all, a->seen[h], a->softcap, a->rows.value_scales, a->max + h, a->sum + h);
    gather(a, any, scores);
}
