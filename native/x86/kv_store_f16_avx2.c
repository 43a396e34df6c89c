#include <string.h>

#include "float_avx2.h"
#include "kv_rows.h"

/* 8 halves; beyond the largest half, that one. */
static inline __m128i halves(__m256 v) {
    const __m256 most = _mm256_set1_ps(65504.0f);
    v = _mm256_min_ps(most, _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), most), v)); /* the second operand for NaN */
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}

/* Eight values of a row: keys lie SLM_KV_LANES apart, values are neighbours, since a panel holds a multiple of eight. */
void slm_kv_store_f16_avx2(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    uint16_t *keys = (uint16_t *)rows->keys + slm_key_index(SLM_F16, d, row, 0), *values = rows->values;
    for (int64_t i = 0; i < d; i += 8) {
        int64_t n = d - i < 8 ? d - i : 8;
        uint16_t eight[8];
        _mm_storeu_si128((__m128i *)(void *)eight, halves(slm_load8(value + i, n)));
        memcpy(values + slm_value_index(SLM_F16, row, i), eight, n == 8 ? sizeof eight : (size_t)n * sizeof *eight);
        _mm_storeu_si128((__m128i *)(void *)eight, halves(slm_load8(key + i, n)));
        for (int64_t j = 0; j < n; j++) keys[(i + j) * SLM_KV_LANES] = eight[j];
    }
}
