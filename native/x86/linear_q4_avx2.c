#include "lanes_avx2.h"

enum { AHEAD_BYTES = 0, USE_CORRECTIONS = 1, TILE_ROWS = 2, TILE_VECTORS = 4 };

/* The sum of 8 steps fits 16 bits: at most 2 * 8 * 15 * 127 = 30480. */
static inline slm_ints start(slm_ints sums, slm_ints w, slm_ints a) {
    (void)sums;
    return _mm256_maddubs_epi16(w, a);
}
static inline void step(slm_ints *part, slm_ints w, slm_ints a) { slm_add_int16(part, _mm256_maddubs_epi16(w, a)); }
static inline slm_ints finish(slm_ints sums, slm_ints part) { return _mm256_add_epi32(sums, slm_sum_pairs(part)); }

#include "columns_q4.h"
#include "decode_q4.h"

#include "decode.h"

void slm_linear_q4_avx2(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                   int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    linear_any(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
