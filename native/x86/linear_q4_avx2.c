#include "decode.h"
#include "panel.h"
#include "tile_avx2.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

static inline __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
static inline __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
/* Packed activations of 64 inputs: those that meet the low nibbles, and the high ones; per half the 16 of one 32. */
typedef struct acts64 {
    __m256i even, odd;
} acts64;

static inline acts64 load_acts(const int8_t *values) {
    __m256i first = _mm256_load_si256((const __m256i *)values), second = _mm256_load_si256((const __m256i *)(values + 32));
    return (acts64){_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31)};
}

/* 64 weights: partial sums, the low half of the first 32, the high half of the last 32. 15 * 127 * 4 fits 16 bits. */
static inline __m256i dot64(__m256i bytes, acts64 a) {
    __m256i even = _mm256_maddubs_epi16(low_nibbles(bytes), a.even);
    return slm_sum_pairs(_mm256_add_epi16(even, _mm256_maddubs_epi16(high_nibbles(bytes), a.odd)));
}

static inline __m256i load64(const uint8_t *q) { return _mm256_loadu_si256((const __m256i *)q); }

/* 64 inputs of four rows, beginning at byte `at` of each: per half the totals of rows 0..3. */
static inline __m256i dot64_rows4(const slm_rows4 *w, int64_t at, const int8_t *values) {
    acts64 a = load_acts(values);
    slm_prefetch_rows4(w, at);
    return slm_sum_rows4(dot64(load64(w->data[0] + at), a), dot64(load64(w->data[1] + at), a), dot64(load64(w->data[2] + at), a),
                         dot64(load64(w->data[3] + at), a));
}

/* The last 32 inputs of four rows. */
static inline __m128i dot32_rows4(const slm_rows4 *w, int64_t at, const int8_t *values) {
    __m256i first = _mm256_load_si256((const __m256i *)values), none = _mm256_setzero_si256(), v[4];
    acts64 a = {_mm256_permute2x128_si256(first, none, 0x20), _mm256_permute2x128_si256(first, none, 0x31)};
    for (int r = 0; r < 4; r++)
        v[r] = dot64(_mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(w->data[r] + at))), a);
    return _mm256_castsi256_si128(slm_sum_rows4(v[0], v[1], v[2], v[3]));
}

static inline __m128i correct(__m128i sums, const slm_act_row *a, int64_t g) {
    return _mm_add_epi32(sums, _mm_set1_epi32(a->corrections[g]));
}

static inline __m128 dot4_group32(const slm_rows4 *w, const slm_act_row *a, int64_t groups) {
    __m128 acc = _mm_setzero_ps();
    int64_t g = 0;
    for (; g + 1 < groups; g += 2) {
        __m256i sums = dot64_rows4(w, g * 16, a->values + g * 32);
        acc = slm_add_group4(acc, correct(_mm256_castsi256_si128(sums), a, g), w, a, g);
        acc = slm_add_group4(acc, correct(_mm256_extracti128_si256(sums, 1), a, g + 1), w, a, g + 1);
    }
    if (g < groups) acc = slm_add_group4(acc, correct(dot32_rows4(w, g * 16, a->values + g * 32), a, g), w, a, g);
    return acc;
}

static inline __m128 dot4(const slm_rows4 *w, const slm_act_row *a, int64_t group, int64_t groups) {
    if (group == 32) return dot4_group32(w, a, groups);
    __m128 acc = _mm_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        __m256i sums = dot64_rows4(w, g * group / 2, a->values + g * group);
        if (group == 128) sums = _mm256_add_epi32(sums, dot64_rows4(w, g * 64 + 32, a->values + g * 128 + 64));
        acc = slm_add_group4(acc, correct(slm_add_halves(sums), a, g), w, a, g);
    }
    return acc;
}

static inline __m256i unpack(const uint8_t *row, int64_t block) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(row + block * 16));
    return low_nibbles(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes));
}

/* Sums of one 32 in 16 bits: 8 steps of at most 2 * 15 * 127 = 3810. */
static inline void tile32(const uint8_t *panel, const slm_act_row *rows, int64_t k, __m256i acc[SLM_HEIGHT][2]) {
    __m256i part[SLM_HEIGHT][2];
    for (int r = 0; r < SLM_HEIGHT; r++) part[r][0] = part[r][1] = _mm256_setzero_si256();
    for (int c = 0; c < 8; c++) {
        __m256i w0 = _mm256_load_si256((const __m256i *)(panel + (k / 4 + c) * SLM_WIDTH * 4));
        __m256i w1 = _mm256_load_si256((const __m256i *)(panel + (k / 4 + c) * SLM_WIDTH * 4 + 32));
        for (int r = 0; r < SLM_HEIGHT; r++) {
            __m256i a = slm_broadcast4(rows[r].values + k + c * 4);
            part[r][0] = _mm256_add_epi16(part[r][0], _mm256_maddubs_epi16(w0, a));
            part[r][1] = _mm256_add_epi16(part[r][1], _mm256_maddubs_epi16(w1, a));
        }
    }
    for (int r = 0; r < SLM_HEIGHT; r++)
        for (int v = 0; v < 2; v++) acc[r][v] = _mm256_add_epi32(acc[r][v], slm_sum_pairs(part[r][v]));
}

static inline void tile(const uint8_t *panel, const float *scales, const slm_act_row *rows, int64_t group, int64_t groups,
                        float *out) {
    slm_tile_avx2(panel, scales, rows, group, groups, out, tile32, 1);
}

void slm_linear_q4_avx2(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    int64_t row_bytes = slm_groups(w->k, w->group) * w->group / 2;
    if (m < PANEL_ROWS) {
        slm_linear_rows4(w, row_bytes, dot4, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
        return;
    }
    slm_panel_shape shape = {SLM_WIDTH, SLM_HEIGHT, row_bytes, unpack, tile};
    slm_linear_panels(w, shape, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
