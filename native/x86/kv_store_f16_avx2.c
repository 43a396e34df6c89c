#include "float_avx2.h"
#include "kv_rows.h"

/* 8 halves; beyond the largest half, that one. */
static inline __m128i halves(__m256 v) {
    const __m256 most = _mm256_set1_ps(65504.0f);
    v = _mm256_min_ps(most, _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), most), v)); /* the second operand for NaN */
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}

void slm_kv_store_f16_avx2(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    uint16_t *keys = rows->keys, *values = rows->values;
    for (int64_t i = 0; i < d; i += 8) {
        __m256i lanes = slm_mask8(d - i);
        uint16_t k[8], v[8];
        _mm_storeu_si128((__m128i *)(void *)k, halves(_mm256_maskload_ps(key + i, lanes)));
        _mm_storeu_si128((__m128i *)(void *)v, halves(_mm256_maskload_ps(value + i, lanes)));
        for (int64_t j = 0; j < 8 && i + j < d; j++) keys[slm_key_index(SLM_F16, d, row, i + j)] = k[j];
        for (int64_t j = 0; j < 8 && i + j < d; j++) values[slm_value_index(SLM_F16, row, i + j)] = v[j];
    }
}
