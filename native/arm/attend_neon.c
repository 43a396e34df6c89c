/* Up to four heads at a time share the loads of keys and values. Every head sees the same order of additions whatever its company, so
 * that results do not depend on which rows were attended together. */
#include "kernels.h"
#include "math_neon.h"

enum { HEADS = 4, ROWS = 4, CHUNK = 4 }; /* of a tile: heads, cache rows when scoring, vectors of the width when gathering */

#define INLINE static inline __attribute__((always_inline))

typedef float weight_rows[HEADS][SLM_ATTEND_BLOCK];

/* scores[h][j] = q[h] . key j for a multiple of ROWS rows; rows from `count` on repeat the last one. */
INLINE void score(const float *q, int64_t d, int heads, const float *keys, int64_t stride, int64_t count, weight_rows scores) {
    int64_t whole = d / 4 * 4;
    for (int64_t j = 0; j < count; j += ROWS) {
        const float *rows[ROWS];
        float32x4_t s[HEADS][ROWS], tail[ROWS];
        for (int64_t r = 0; r < ROWS; r++) rows[r] = keys + (j + r < count ? j + r : count - 1) * stride;
        for (int h = 0; h < heads; h++)
            for (int r = 0; r < ROWS; r++) s[h][r] = vdupq_n_f32(0);
        for (int64_t i = 0; i < whole; i += 4)
            for (int r = 0; r < ROWS; r++) {
                float32x4_t key = vld1q_f32(rows[r] + i);
                for (int h = 0; h < heads; h++) s[h][r] = vfmaq_f32(s[h][r], vld1q_f32(q + h * d + i), key);
            }
        for (int r = 0; r < ROWS; r++) tail[r] = slm_load4(rows[r] + whole, d - whole);
        for (int h = 0; h < heads; h++) {
            float32x4_t rest = slm_load4(q + h * d + whole, d - whole);
            for (int r = 0; r < ROWS; r++) s[h][r] = vfmaq_f32(s[h][r], rest, tail[r]);
            vst1q_f32(&scores[h][j], slm_sum4(s[h][0], s[h][1], s[h][2], s[h][3]));
        }
    }
}

/* Scores of one head become weights exp(score - max), 0 from `count` on; updates max and sum; returns what acc shrinks by. */
static float soften(float *scores, int64_t count, float softcap, float *max, float *sum) {
    static const int32_t LANES[] = {0, 1, 2, 3};
    float32x4_t top = vdupq_n_f32(*max), total = vdupq_n_f32(0), v[SLM_ATTEND_BLOCK / 4];
    int vectors = (int)((count + 3) / 4);
    for (int j = 0; j < vectors; j++) {
        v[j] = vld1q_f32(scores + 4 * j);
        if (softcap != 0) v[j] = vmulq_n_f32(slm_tanh_neon(vdivq_f32(v[j], vdupq_n_f32(softcap))), softcap);
        uint32x4_t valid = vcltq_s32(vld1q_s32(LANES), vdupq_n_s32((int32_t)count - 4 * j));
        v[j] = vbslq_f32(valid, v[j], vdupq_n_f32(-__builtin_inff()));
        top = vmaxq_f32(top, v[j]);
    }
    float new_max = vmaxvq_f32(top);
    float shrink = vgetq_lane_f32(slm_exp_neon(vdupq_n_f32(*max - new_max)), 0);
    for (int j = 0; j < vectors; j++) {
        v[j] = slm_exp_neon(vsubq_f32(v[j], vdupq_n_f32(new_max)));
        total = vaddq_f32(total, v[j]);
        vst1q_f32(scores + 4 * j, v[j]);
    }
    *max = new_max;
    *sum = *sum * shrink + vaddvq_f32(total);
    return shrink;
}

/* `vectors` of n (1 to 4) values of acc, from i: acc[h] = acc[h] * shrink[h] + sum over rows of weights[h][j] * value j. */
INLINE void gather_chunk(int64_t d, int heads, const float *values, int64_t stride, int64_t count, const weight_rows weights,
                         const float *shrink, float *acc, int64_t i, int vectors, int64_t n) {
    float32x4_t s[HEADS][CHUNK];
    for (int h = 0; h < heads; h++)
        for (int c = 0; c < vectors; c++) s[h][c] = vmulq_n_f32(slm_load4(acc + h * d + i + 4 * c, n), shrink[h]);
    for (int64_t j = 0; j < count; j++)
        for (int c = 0; c < vectors; c++) {
            float32x4_t value = slm_load4(values + j * stride + i + 4 * c, n);
            for (int h = 0; h < heads; h++) s[h][c] = vfmaq_n_f32(s[h][c], value, weights[h][j]);
        }
    for (int h = 0; h < heads; h++)
        for (int c = 0; c < vectors; c++) slm_store4(acc + h * d + i + 4 * c, n, s[h][c]);
}

INLINE void gather(int64_t d, int heads, const float *values, int64_t stride, int64_t count, const weight_rows weights,
                   const float *shrink, float *acc) {
    int64_t i = 0;
    for (; i + 4 * CHUNK <= d; i += 4 * CHUNK)
        gather_chunk(d, heads, values, stride, count, weights, shrink, acc, i, CHUNK, 4);
    for (; i + 4 <= d; i += 4) gather_chunk(d, heads, values, stride, count, weights, shrink, acc, i, 1, 4);
    if (i < d) gather_chunk(d, heads, values, stride, count, weights, shrink, acc, i, 1, d - i);
}

INLINE void attend_block(const float *q, int64_t d, int heads, const float *keys, const float *values, int64_t stride, int64_t count,
                         float softcap, float *max, float *sum, float *acc) {
    weight_rows weights = {{0}};
    float shrink[HEADS];
    score(q, d, heads, keys, stride, count, weights);
    for (int h = 0; h < heads; h++) shrink[h] = soften(weights[h], count, softcap, max + h, sum + h);
    gather(d, heads, values, stride, count, weights, shrink, acc);
}

void slm_attend_neon(const float *q, int64_t n_q, int64_t d, const float *keys, const float *values, int64_t kv_stride,
                     int64_t count, float softcap, float *max, float *sum, float *acc) {
    for (int64_t start = 0; start < count; start += SLM_ATTEND_BLOCK) {
        int64_t rows = count - start < SLM_ATTEND_BLOCK ? count - start : SLM_ATTEND_BLOCK;
        const float *k = keys + start * kv_stride, *v = values + start * kv_stride;
        int64_t h = 0;
        for (; h + HEADS <= n_q; h += HEADS)
            attend_block(q + h * d, d, HEADS, k, v, kv_stride, rows, softcap, max + h, sum + h, acc + h * d);
        for (; h < n_q; h++) attend_block(q + h * d, d, 1, k, v, kv_stride, rows, softcap, max + h, sum + h, acc + h * d);
    }
}
