/* Linear of one token over q4 weights, read in the one order in which memory gives them fastest: from the first row's first byte to the
 * last row's last. For 16 rows the stream is one of cells, each a group of a row, 16 at a time whichever rows they are of: their sums and
 * scales fill a vector. Afterwards the cells of a row are added in order. AVX-512 VNNI. */
#ifndef SLM_X86_STREAM_Q4_H
#define SLM_X86_STREAM_Q4_H

#include <immintrin.h>

#include "rows.h"

enum {
    STREAM_ROWS = 16,
    STREAM_CELLS = 16,
    STREAM_AHEAD = 6 << 10, /* bytes ahead at which memory is asked for weights, into the second-level cache */
};

/* The token by cells: those of a row, and again from the first on, as many as 16 cells that begin anywhere in a row need. */
typedef struct stream_token {
    const int8_t *low, *high; /* what meets low nibbles, and high ones: half a group each */
    const float *scales;
    const int32_t *corrections;
} stream_token;

/* Asks for weights here and now: gcc moves prefetches together, where they take all that the core can wait for. */
static inline __m512i load_stream(const uint8_t *w) {
    __m512i bytes = _mm512_loadu_si512(w);
#if defined(__GNUC__) && !defined(SLM_SIMDE)
    __asm__ volatile("prefetcht1 %1" : "+v"(bytes) : "m"(w[STREAM_AHEAD]));
#endif
    return bytes;
}

static inline __m512i dot_stream(const uint8_t *w, const int8_t *low, const int8_t *high) {
    __m512i fifteen = _mm512_set1_epi8(15), bytes = load_stream(w);
    __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(bytes, fifteen), _mm512_loadu_si512(low));
    return _mm512_dpbusd_epi32(sums, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), fifteen), _mm512_loadu_si512(high));
}

/* Sums of neighbours, of a and of b in each quarter. 16 bits hold what comes in: at most 16 products of 15 * 127. */
static inline __m512i sum_pairs(__m512i a, __m512i b) {
    return _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
}

/* 256 bytes: quarter q of the result holds the totals of quarter q of each 64 of them. */
static inline __m512i dot_quarters(const uint8_t *w, const int8_t *low, const int8_t *high) {
    __m512i v[4];
    for (int i = 0; i < 4; i++) v[i] = dot_stream(w + 64 * i, low + 64 * i, high + 64 * i);
    return sum_pairs(sum_pairs(v[0], v[1]), sum_pairs(v[2], v[3]));
}

/* Sums of neighbouring quarters, of a and then of b. */
static inline __m512i sum_quarters(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* Sums of 16 cells, in order. */
static inline __attribute__((always_inline)) __m512i dot_cells(const uint8_t *w, const int8_t *low, const int8_t *high, int group) {
    __m512i first = dot_quarters(w, low, high);
    if (group == 32)
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), first);
    first = sum_quarters(first, dot_quarters(w + 256, low + 256, high + 256));
    if (group == 64)
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), first);
    __m512i third = dot_quarters(w + 512, low + 512, high + 512), fourth = dot_quarters(w + 768, low + 768, high + 768);
    return sum_quarters(first, sum_quarters(third, fourth));
}

/* The cells of 16 rows, scaled. */
static inline __attribute__((always_inline)) void stream_cells(const uint8_t *w, const uint16_t *scales, const stream_token *t,
                                                               int64_t groups, int group, float *cells) {
    const int64_t step = STREAM_CELLS % groups;
    for (int64_t i = 0, at = 0; i < groups; i++, at += at + step < groups ? step : step - groups) {
        __m512i sums = dot_cells(w + i * STREAM_CELLS * group / 2, t->low + at * group / 2, t->high + at * group / 2, group);
        sums = _mm512_add_epi32(sums, _mm512_loadu_si512(t->corrections + at));
        __m512 s = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(scales + i * STREAM_CELLS)));
        s = _mm512_mul_ps(s, _mm512_loadu_ps(t->scales + at));
        _mm_prefetch((const char *)(scales + i * STREAM_CELLS) + 1024, _MM_HINT_T0);
        _mm512_store_ps(cells + i * STREAM_CELLS, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), s));
    }
}

/* Four neighbours of the rows 0, 4, 8 and 12. */
static inline __m512 load_quarters(const float *at, int64_t stride) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(at));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(at + 4 * stride));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(at + 8 * stride));
    return _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(at + 12 * stride));
}

/* Sums of the rows, by columns, four of which are made at a time; up to three floats behind the last row are read. */
static inline __m512 sum_cells(const float *cells, int64_t groups) {
    __m512 acc = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g += 4) {
        __m512d pairs[4];
        for (int i = 0; i < 4; i += 2) {
            __m512 a = load_quarters(cells + i * groups + g, groups), b = load_quarters(cells + (i + 1) * groups + g, groups);
            pairs[i] = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            pairs[i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        }
        for (int i = 0; i < 4 && i < groups - g; i++) {
            __m512d a = pairs[i / 2], b = pairs[2 + i / 2];
            acc = _mm512_add_ps(acc, _mm512_castpd_ps(i % 2 ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b)));
        }
    }
    return acc;
}

/* At least STREAM_ROWS outputs. */
static inline void linear_stream(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, float *y, const float *bias,
                                 int accumulate, void *scratch) {
    const int64_t groups = slm_groups(w->k, w->group), half = w->group / 2, all = (groups + STREAM_CELLS + 3) / 4 * 4;
    slm_act_row row = slm_act_row_at(w, x, 0, 0);
    float *cells = scratch;
    int8_t *low = (int8_t *)(cells + groups * STREAM_ROWS), *high = low + all * half;
    float *scales = (float *)(void *)(high + all * half);
    int32_t *corrections = (int32_t *)(void *)(scales + all);
    for (int64_t i = 0, g = 0; i < all; i++, g = g + 1 < groups ? g + 1 : 0) {
        const int8_t *values = row.values + g * w->group;
        for (int64_t b = 0; b < half; b += 16) {
            memcpy(low + i * half + b, values + 2 * b, 16);
            memcpy(high + i * half + b, values + 2 * b + 16, 16);
        }
        scales[i] = row.scales[g];
        corrections[i] = row.corrections[g];
    }
    stream_token t = {low, high, scales, corrections};
    for (int64_t j = n0; j < n1; j += STREAM_ROWS) {
        int64_t first = j + STREAM_ROWS < n1 ? j : n1 - STREAM_ROWS; /* the last rows with some before them once more */
        const uint8_t *data = (const uint8_t *)w->data + first * groups * half;
        const uint16_t *s = w->scales + first * groups;
        if (w->group == 32) stream_cells(data, s, &t, groups, 32, cells);
        else if (w->group == 64) stream_cells(data, s, &t, groups, 64, cells);
        else stream_cells(data, s, &t, groups, 128, cells);
        _Alignas(64) float sums[STREAM_ROWS];
        _mm512_store_ps(sums, sum_cells(cells, groups));
        slm_store_outputs(sums + (j - first), STREAM_ROWS - (j - first), w->scale, y + j, bias ? bias + j : NULL, accumulate);
    }
}

#endif
