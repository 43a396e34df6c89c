/* Attention over one block: scores of all queries, their softmax, weighted sums of values. The including file defines the instruction set:
 *
 *     VEC, LANES                      a vector of float
 *     ZERO(), SET1(x)                 all 0; all x
 *     LOAD(p), STORE(p, v)            LANES floats
 *     ADD, SUB, MUL, DIV, MAX(a, b)   MAX of a NaN and a number may be either
 *     FMA_SCALAR(acc, v, x)           acc + v * x
 *     EXP(v), TANH(v)                 EXP of at most 0
 *     WITHIN(v, first, stop, other)   lanes first..stop-1 of v, elsewhere of other
 *     SUM(v), LARGEST(v)              over the lanes
 *     PEAK(a, b), PEAK_OF(v)          the larger, and the largest, of numbers that are not negative; NaN where there is one
 */
#include "ahead.h"
#include "kv_rows.h"

#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* with the registers to itself, and to be found in a disassembly */
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

/* Where nothing is needed, what is at hand is asked for, which costs less than asking whether. */
INLINE const char *ahead_of(const void *from, int64_t at, const void *at_hand) { return from ? (const char *)from + at : (const char *)at_hand; }

/* Does the panel from row j on have lanes outside? */
INLINE int is_cut(slm_seen seen, int32_t j) { return j < seen.first || j + SLM_KV_LANES > seen.stop; }

INLINE VEC cut(slm_seen seen, int32_t j, VEC v, VEC other) { return WITHIN(v, seen.first - j, seen.stop - j, other); }

/* Caps the scores of whole panels `all`; those outside of what is seen become -inf. */
INLINE void cap_scores(float *scores, slm_seen all, slm_seen seen, float softcap) {
    if (softcap == 0 && seen.first <= all.first && seen.stop >= all.stop) return;
    for (int32_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        int outside = is_cut(seen, j);
        for (int v = 0; (outside || softcap != 0) && v < VECTORS; v++) {
            float *at = scores + j + v * LANES;
            VEC x = LOAD(at);
            if (softcap != 0) x = MUL(SET1(softcap), TANH(DIV(x, SET1(softcap))));
            STORE(at, outside ? cut(seen, j + v * LANES, x, SET1(-__builtin_inff())) : x);
        }
    }
}

/* In four chains, as a maximum waits for the one before it. */
INLINE float largest(const float *scores, slm_seen all) {
    VEC top[4];
    int32_t j = all.first;
    for (int c = 0; c < 4; c++) top[c] = SET1(-__builtin_inff());
    for (; j + 4 * LANES <= all.stop; j += 4 * LANES)
        for (int c = 0; c < 4; c++) top[c] = MAX(top[c], LOAD(scores + j + c * LANES));
    for (; j < all.stop; j += LANES) top[0] = MAX(top[0], LOAD(scores + j));
    return LARGEST(MAX(MAX(top[0], top[1]), MAX(top[2], top[3])));
}

/* Of a row of weights, by lanes: their sum, and the largest once they are scaled. */
typedef struct softened {
    VEC sum[VECTORS], peak[VECTORS];
} softened;

/* A panel of scores: what they become is added to what is known of the row. */
INLINE void soften_panel(float *scores, slm_seen seen, int outside, VEC shift, const float *scales, softened *of) {
    VEC x[VECTORS];
    for (int v = 0; v < VECTORS; v++) x[v] = EXP(SUB(LOAD(scores + v * LANES), shift));
    for (int v = 0; outside && v < VECTORS; v++) x[v] = cut(seen, v * LANES, x[v], ZERO());
    for (int v = 0; v < VECTORS; v++) of->sum[v] = ADD(of->sum[v], x[v]);
    for (int v = 0; scales && v < VECTORS; v++) x[v] = MUL(x[v], LOAD(scales + v * LANES));
    for (int v = 0; scales && outside && v < VECTORS; v++) x[v] = cut(seen, v * LANES, x[v], ZERO()); /* scales may be anything */
    for (int v = 0; scales && v < VECTORS; v++) of->peak[v] = PEAK(of->peak[v], x[v]);
    for (int v = 0; v < VECTORS; v++) STORE(scores + v * LANES, x[v]);
}

/* Scores become weights exp(score - max); then they take over the scales of their rows' values (NULL: none). Rows have their lanes by
 * position, so that the order of additions is that of positions. Asks for a line of each run with every other panel. */
INLINE softened soften(float *scores, slm_seen all, slm_seen seen, float max, const float *scales, slm_asking ahead) {
    softened of;
    int whole = seen.first <= all.first && seen.stop >= all.stop;
    VEC shift = SET1(seen.first < seen.stop ? max : 0); /* nothing seen: all weights 0 */
    for (int v = 0; v < VECTORS; v++) of.sum[v] = of.peak[v] = ZERO();
    for (int32_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        const float *of_values = scales ? scales + j : NULL;
        if (whole) soften_panel(scores + j, seen, 0, shift, of_values, &of);
        else soften_panel(scores + j, (slm_seen){seen.first - j, seen.stop - j}, 1, shift, of_values, &of);
        for (int64_t run = 0; run < SLM_RUNS && j & SLM_KV_LANES; run++) slm_ask(ahead, 0, run);
        ahead.at += j & SLM_KV_LANES ? ahead.step : 0;
    }
    for (int v = 1; v < VECTORS; v++) {
        of.sum[0] = ADD(of.sum[0], of.sum[v]);
        of.peak[0] = PEAK(of.peak[0], of.peak[v]);
    }
    return of;
}

/* Scores of all queries with whole panels of rows; what to ask for while those of the first query are softened, and how many bytes further while
 * those of each next one are; sums of values by weights (of which peaks are the largest), over the rows that any query sees. */
typedef void score_fn(const slm_attend *a, slm_seen all, float *scores);
typedef slm_asking asking_fn(const slm_attend *a, int64_t *further);
typedef void gather_fn(const slm_attend *a, slm_seen any, const float *weights, const float *peaks);

/* Scores and weights: (n_q, SLM_KV_BLOCK); peaks: (n_q). */
INLINE void attend(const slm_attend *a, score_fn *score, asking_fn *asking_of, gather_fn *gather) {
    float *scores = (float *)a->scratch, *peaks = scores + a->n_q * SLM_KV_BLOCK;
    slm_seen any = seen_by_any(a), all = whole_panels(any);
    score(a, all, scores);
    for (int64_t h = 0; h < a->n_q; h++) {
        cap_scores(scores + h * SLM_KV_BLOCK, all, a->seen[h], a->softcap);
        a->out.max[h] = largest(scores + h * SLM_KV_BLOCK, all);
    }
    int64_t further;
    slm_asking ahead = asking_of(a, &further);
    for (int64_t first = 0; first < a->n_q; first += 8) {
        softened rows[8];
        int64_t n = a->n_q - first < 8 ? a->n_q - first : 8;
        for (int64_t i = 0; i < n; i++, ahead.at += further) {
            int64_t h = first + i;
            rows[i] = soften(scores + h * SLM_KV_BLOCK, all, a->seen[h], a->out.max[h], a->rows.value_scales, ahead);
        }
        for (int64_t i = 0; i < n; i++) { /* when all are there, as each takes many steps that wait for each other */
            a->out.sum[first + i] = SUM(rows[i].sum[0]);
            peaks[first + i] = PEAK_OF(rows[i].peak[0]);
        }
    }
    gather(a, any, scores, peaks);
}
