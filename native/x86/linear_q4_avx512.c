#include "lanes_avx512.h"
#include "vnni.h"

enum { TILE_ROWS = 8, TILE_VECTORS = 2 };

static inline void step(slm_ints *part, slm_ints w, slm_ints a) { *part = _mm512_dpbusd_epi32(*part, w, a); }

#include "columns_q4.h"

#include "columns.h"
#include "stream_q4.h"

extern slm_linear_fn slm_linear_q4_avx512vl;

void slm_linear_q4_avx512(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                   int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m > 1) linear_columns(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
    else if (n1 - n0 >= STREAM_ROWS) linear_stream(w, n0, n1, x, y, bias, accumulate, scratch);
    else slm_linear_q4_avx512vl(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
