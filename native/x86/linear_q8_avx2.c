#include "decode.h"
#include "panel.h"
#include "tile_avx2.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

/* Weights as stored (unsigned, zero point 128) to signed. */
static inline __m256i to_signed(__m256i q) { return _mm256_xor_si256(q, _mm256_set1_epi8(-128)); }

/* Sums of 4 neighbouring products |w| * (a with the sign of w). 128 * 127 * 2 fits 16 bits, and a is never -128. */
static inline __m256i dot_signed(__m256i magnitude, __m256i w, __m256i a) {
    return slm_sum_pairs(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, w)));
}

/* 32 weights of one row. */
static inline __m256i dot32(const uint8_t *q, __m256i a) {
    __m256i w = to_signed(_mm256_loadu_si256((const __m256i *)q));
    return dot_signed(_mm256_abs_epi8(w), w, a);
}

static inline __m128 dot4(const slm_rows4 *w, const slm_act_row *a, int64_t group, int64_t groups) {
    __m128 acc = _mm_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        __m256i v[4];
        for (int r = 0; r < 4; r++) v[r] = _mm256_setzero_si256();
        for (int64_t k = g * group; k < (g + 1) * group; k += 32) {
            __m256i values = _mm256_load_si256((const __m256i *)(a->values + k));
            slm_prefetch_rows4(w, k);
            for (int r = 0; r < 4; r++) v[r] = _mm256_add_epi32(v[r], dot32(w->data[r] + k, values));
        }
        acc = slm_add_group4(acc, slm_add_halves(slm_sum_rows4(v[0], v[1], v[2], v[3])), w, a, g);
    }
    return acc;
}

static inline __m256i unpack(const uint8_t *row, int64_t block) {
    return to_signed(_mm256_loadu_si256((const __m256i *)(row + block * 32)));
}

static inline void tile32(const uint8_t *panel, const slm_act_row *rows, int64_t k, __m256i acc[SLM_HEIGHT][2]) {
    for (int c = 0; c < 8; c++) {
        __m256i w0 = _mm256_load_si256((const __m256i *)(panel + (k / 4 + c) * SLM_WIDTH * 4));
        __m256i w1 = _mm256_load_si256((const __m256i *)(panel + (k / 4 + c) * SLM_WIDTH * 4 + 32));
        __m256i magnitude0 = _mm256_abs_epi8(w0), magnitude1 = _mm256_abs_epi8(w1);
        for (int r = 0; r < SLM_HEIGHT; r++) {
            __m256i a = slm_broadcast4(rows[r].values + k + c * 4);
            acc[r][0] = _mm256_add_epi32(acc[r][0], dot_signed(magnitude0, w0, a));
            acc[r][1] = _mm256_add_epi32(acc[r][1], dot_signed(magnitude1, w1, a));
        }
    }
}

static inline void tile(const uint8_t *panel, const float *scales, const slm_act_row *rows, int64_t group, int64_t groups,
                        float *out) {
    slm_tile_avx2(panel, scales, rows, group, groups, out, tile32, 0);
}

void slm_linear_q8_avx2(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                        int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    int64_t row_bytes = slm_groups(w->k, w->group) * w->group;
    if (m < PANEL_ROWS) {
        slm_linear_rows4(w, row_bytes, dot4, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
        return;
    }
    slm_panel_shape shape = {SLM_WIDTH, SLM_HEIGHT, row_bytes, unpack, tile};
    slm_linear_panels(w, shape, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
