/* Two heads at a time share the loads of keys and values. Every head sees the same order of additions whether it runs in a pair
 * or alone, so that results do not depend on which rows were attended together. */
#include <string.h>

#include "kernels.h"
#include "math_avx2.h"

/* (sum a, sum b, sum c, sum d), each added in the same order. */
static __m128 sum4(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

/* scores[h][j] = q[h] . key j, for `heads` (1 or 2) heads and a multiple of 4 rows; rows from `count` on repeat the last one. */
static inline void score(const float *q, int64_t d, int heads, const float *keys, int64_t stride, int64_t count,
                         float scores[2][SLM_ATTEND_BLOCK]) {
    for (int64_t j = 0; j < count; j += 4) {
        const float *rows[4];
        for (int64_t r = 0; r < 4; r++) rows[r] = keys + (j + r < count ? j + r : count - 1) * stride;
        __m256 s[2][4];
        for (int h = 0; h < heads; h++)
            for (int r = 0; r < 4; r++) s[h][r] = _mm256_setzero_ps();
        for (int64_t i = 0; i < d; i += 8) {
            __m256i lanes = slm_lanes_avx2(d - i);
            __m256 a = _mm256_maskload_ps(q + i, lanes), b = heads > 1 ? _mm256_maskload_ps(q + d + i, lanes) : a;
            for (int r = 0; r < 4; r++) {
                __m256 key = _mm256_maskload_ps(rows[r] + i, lanes);
                s[0][r] = _mm256_fmadd_ps(a, key, s[0][r]);
                if (heads > 1) s[1][r] = _mm256_fmadd_ps(b, key, s[1][r]);
            }
        }
        for (int h = 0; h < heads; h++) _mm_store_ps(&scores[h][j], sum4(s[h][0], s[h][1], s[h][2], s[h][3]));
    }
}

/* Scores of one head become weights exp(score - max), 0 from `count` on; updates max and sum; returns what acc shrinks by. */
static float soften(float *scores, int64_t count, float softcap, float *max, float *sum) {
    const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
    __m256 top = _mm256_set1_ps(*max), total = _mm256_setzero_ps(), v[SLM_ATTEND_BLOCK / 8];
    int vectors = (int)((count + 7) / 8);
    for (int j = 0; j < vectors; j++) {
        v[j] = _mm256_load_ps(scores + 8 * j);
        if (softcap != 0)
            v[j] = _mm256_mul_ps(_mm256_set1_ps(softcap), slm_tanh_avx2(_mm256_div_ps(v[j], _mm256_set1_ps(softcap))));
        v[j] = _mm256_blendv_ps(nothing, v[j], _mm256_castsi256_ps(slm_lanes_avx2(count - 8 * j)));
        top = _mm256_max_ps(top, v[j]);
    }
    float new_max = slm_max_avx2(top);
    float shrink = _mm256_cvtss_f32(slm_exp_avx2(_mm256_set1_ps(*max - new_max)));
    for (int j = 0; j < vectors; j++) {
        v[j] = slm_exp_avx2(_mm256_sub_ps(v[j], _mm256_set1_ps(new_max)));
        total = _mm256_add_ps(total, v[j]);
        _mm256_store_ps(scores + 8 * j, v[j]);
    }
    *max = new_max;
    *sum = *sum * shrink + slm_sum_avx2(total);
    return shrink;
}

/* acc[h] = acc[h] * shrink[h] + sum over rows of weights[h][j] * value j. */
static inline void gather(int64_t d, int heads, const float *values, int64_t stride, int64_t count,
                          float weights[2][SLM_ATTEND_BLOCK], const float *shrink, float *acc) {
    for (int64_t i = 0; i < d; i += 32) {
        __m256i lanes[4];
        __m256 s[2][4];
        for (int c = 0; c < 4; c++) {
            lanes[c] = slm_lanes_avx2(d - i - 8 * c);
            for (int h = 0; h < heads; h++)
                s[h][c] = _mm256_mul_ps(_mm256_maskload_ps(acc + h * d + i + 8 * c, lanes[c]), _mm256_set1_ps(shrink[h]));
        }
        for (int64_t j = 0; j < count; j++) {
            __m256 a = _mm256_broadcast_ss(&weights[0][j]), b = heads > 1 ? _mm256_broadcast_ss(&weights[1][j]) : a;
            for (int c = 0; c < 4; c++) {
                __m256 value = _mm256_maskload_ps(values + j * stride + i + 8 * c, lanes[c]);
                s[0][c] = _mm256_fmadd_ps(a, value, s[0][c]);
                if (heads > 1) s[1][c] = _mm256_fmadd_ps(b, value, s[1][c]);
            }
        }
        for (int h = 0; h < heads; h++)
            for (int c = 0; c < 4; c++) _mm256_maskstore_ps(acc + h * d + i + 8 * c, lanes[c], s[h][c]);
    }
}

static inline void attend_block(const float *q, int64_t d, int heads, const float *keys, const float *values, int64_t stride,
                                int64_t count, float softcap, float *max, float *sum, float *acc) {
    _Alignas(32) float weights[2][SLM_ATTEND_BLOCK];
    float shrink[2];
    memset(weights, 0, sizeof weights);
    score(q, d, heads, keys, stride, count, weights);
    for (int h = 0; h < heads; h++) shrink[h] = soften(weights[h], count, softcap, max + h, sum + h);
    gather(d, heads, values, stride, count, weights, shrink, acc);
}

void slm_attend_avx2(const float *q, int64_t n_q, int64_t d, const float *keys, const float *values, int64_t kv_stride,
                     int64_t count, float softcap, float *max, float *sum, float *acc) {
    for (int64_t start = 0; start < count; start += SLM_ATTEND_BLOCK) {
        int64_t rows = count - start < SLM_ATTEND_BLOCK ? count - start : SLM_ATTEND_BLOCK;
        const float *k = keys + start * kv_stride, *v = values + start * kv_stride;
        int64_t h = 0;
        for (; h + 2 <= n_q; h += 2)
            attend_block(q + h * d, d, 2, k, v, kv_stride, rows, softcap, max + h, sum + h, acc + h * d);
        if (h < n_q) attend_block(q + h * d, d, 1, k, v, kv_stride, rows, softcap, max + h, sum + h, acc + h * d);
    }
}
