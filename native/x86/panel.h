/* Prefill of blockwise weights: unpack a panel of weight rows once, then run it over all tokens.
 *
 * Panel: for every 4 inputs of every output 4 bytes, [kp / 4][width][4], the inputs in the order of the packed activations, so that one
 * vector holds the same 4 inputs of neighbouring outputs, and a token brings them by broadcast. Then the scales, [groups][width].
 * The caller gives the instruction set: how 8 rows of 32 weights are loaded, and the tile of `height` tokens by `width` outputs.
 * Everything inlines into the one kernel that includes it.
 */
#ifndef SLM_X86_PANEL_H
#define SLM_X86_PANEL_H

#ifndef __AVX2__
#error "panel.h needs AVX2"
#endif

#include <immintrin.h>

#include "rows.h"
#include "scales.h"

enum { SLM_TILE_MAX = 8 * SLM_LINEAR_STEP };

/* 32 weights (block `index` of a row), one byte each, in the order of the packed activations. */
typedef __m256i slm_unpack_fn(const uint8_t *row, int64_t index);

/* Dot products of `height` rows with all outputs of a panel, into tile (height, width). */
typedef void slm_tile_fn(const uint8_t *panel, const float *scales, const slm_act_row *rows, int64_t group, int64_t groups,
                         float *tile);

typedef struct slm_panel_shape {
    int width, height;  /* outputs (a multiple of 8), tokens */
    int64_t row_bytes;  /* of the weight as stored */
    slm_unpack_fn *unpack;
    slm_tile_fn *tile;
} slm_panel_shape;

/* 8 rows of 8 dwords become 8 columns. */
static inline void slm_transpose8(__m256i r[8]) {
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Outputs n0.. of w into the panel; past the last output (n1 - 1) it is repeated, and its results are dropped later. */
static inline __attribute__((always_inline)) void slm_fill_panel(const slm_matrix *w, slm_panel_shape shape, int64_t n0, int64_t n1,
                                                                 uint8_t *panel, float *scales) {
    int64_t groups = slm_groups(w->k, w->group), blocks = groups * w->group / 32;
    for (int r0 = 0; r0 < shape.width; r0 += 8) {
        const uint8_t *rows[8];
        const uint16_t *halves[8];
        for (int r = 0; r < 8; r++) {
            int64_t j = n0 + r0 + r < n1 ? n0 + r0 + r : n1 - 1;
            rows[r] = (const uint8_t *)w->data + j * shape.row_bytes;
            halves[r] = w->scales + j * groups;
        }
        for (int r = 0; r < 8; r += 4) slm_widen_scales4(halves + r, groups, shape.width, scales + r0 + r);
        for (int64_t b = 0; b < blocks; b++) {
            __m256i v[8];
            for (int r = 0; r < 8; r++) v[r] = shape.unpack(rows[r], b);
            slm_transpose8(v);
            for (int c = 0; c < 8; c++) _mm256_store_si256((__m256i *)(panel + ((b * 8 + c) * shape.width + r0) * 4), v[c]);
        }
    }
}

static inline __attribute__((always_inline)) void slm_linear_panels(const slm_matrix *w, slm_panel_shape shape, int64_t n0, int64_t n1,
                                                                    const void *x, size_t x_stride, int64_t m, float *y,
                                                                    int64_t y_stride, const float *bias, int accumulate,
                                                                    void *scratch) {
    int64_t groups = slm_groups(w->k, w->group);
    uint8_t *panel = scratch;
    float *scales = (float *)(panel + groups * w->group * shape.width);
    _Alignas(64) float tile[SLM_TILE_MAX];
    slm_act_row rows[8];
    for (int64_t j = n0; j < n1; j += shape.width) {
        int64_t width = n1 - j < shape.width ? n1 - j : shape.width;
        slm_fill_panel(w, shape, j, n1, panel, scales);
        for (int64_t i = 0; i < m; i += shape.height) {
            int64_t height = m - i < shape.height ? m - i : shape.height;
            for (int r = 0; r < shape.height; r++) rows[r] = slm_act_row_at(w, x, x_stride, i + (r < height ? r : height - 1));
            shape.tile(panel, scales, rows, w->group, groups, tile);
            for (int64_t r = 0; r < height; r++)
                slm_store_outputs(tile + r * shape.width, width, w->scale, y + (i + r) * y_stride + j, bias ? bias + j : NULL,
                                  accumulate);
        }
    }
}

#endif
