#include "lanes_avx2.h"
#include "vnni.h"

enum { TILE_ROWS = 4, TILE_VECTORS = 2 };

static inline void step(slm_ints *part, slm_ints w, slm_ints a) { *part = _mm256_dpbusd_epi32(*part, w, a); }

#include "columns_q4.h"
#include "decode_q4.h"

#include "decode.h"

void slm_linear_q4_avx512vl(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                   int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    linear_any(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
