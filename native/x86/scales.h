/* Half-precision scales of four weight rows as float32, for panels and for decode. F16C. */
#ifndef SLM_X86_SCALES_H
#define SLM_X86_SCALES_H

#ifndef __F16C__
#error "scales.h needs F16C"
#endif

#include <immintrin.h>
#include <stdint.h>

/* Groups g..g+3. */
static inline void slm_widen_scales4x4(const uint16_t *const rows[4], int64_t g, int width, float *out) {
    __m128 v[4];
    for (int r = 0; r < 4; r++) v[r] = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(rows[r] + g)));
    _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
    for (int c = 0; c < 4; c++) _mm_store_ps(out + (g + c) * width, v[c]);
}

/* Writes [groups][4], groups `width` floats apart; out and width are multiples of 4 floats. */
static inline void slm_widen_scales4(const uint16_t *const rows[4], int64_t groups, int width, float *out) {
    if (groups < 4) {
        for (int64_t g = 0; g < groups; g++)
            for (int r = 0; r < 4; r++) out[g * width + r] = _cvtsh_ss(rows[r][g]);
        return;
    }
    for (int64_t g = 0; g + 4 <= groups; g += 4) slm_widen_scales4x4(rows, g, width, out);
    if (groups % 4) slm_widen_scales4x4(rows, groups - 4, width, out); /* some of them once more */
}

#endif
