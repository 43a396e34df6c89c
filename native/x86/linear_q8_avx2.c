#include "lanes_avx2.h"

enum { AHEAD_BYTES = 0, USE_CORRECTIONS = 0, TILE_ROWS = 4, TILE_VECTORS = 2 };

/* Weights as stored to signed. */
static inline slm_ints as_used(slm_ints q) { return _mm256_xor_si256(q, _mm256_set1_epi8(-128)); }

/* |w| * (a with the sign of w): pairs fit 16 bits, 2 * 128 * 127, and a is never -128. */
static inline void step(slm_ints *part, slm_ints w, slm_ints a) {
    slm_add_int32(part, slm_sum_pairs(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w))));
}
static inline slm_ints start(slm_ints sums, slm_ints w, slm_ints a) {
    step(&sums, w, a);
    return sums;
}
static inline slm_ints finish(slm_ints sums, slm_ints part) {
    (void)sums;
    return part;
}

#include "columns_q8.h"
#include "decode_q8.h"

#include "decode.h"

void slm_linear_q8_avx2(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                   int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    linear_any(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
