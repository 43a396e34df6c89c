#include "panel.h"
#include "tile_avx512.h"

/* From this many rows on, unpacking a panel pays. */
enum { PANEL_ROWS = 4 };

extern slm_linear_fn slm_linear_q4_avx2;

static inline __m256i unpack(const uint8_t *row, int64_t block) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(row + block * 16));
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

void slm_linear_q4_avx512(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                          int64_t y_stride, const float *bias, int accumulate, void *scratch) {
    if (m < PANEL_ROWS) {
        slm_linear_q4_avx2(w, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
        return;
    }
    slm_panel_shape shape = {SLM_WIDTH, SLM_HEIGHT, slm_groups(w->k, w->group) * w->group / 2, unpack, slm_tile_avx512};
    slm_linear_panels(w, shape, n0, n1, x, x_stride, m, y, y_stride, bias, accumulate, scratch);
}
