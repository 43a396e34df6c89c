#include "float_neon.h"
#include "kv_rows.h"

/* 4 halves; beyond the largest half, that one. */
static inline void halves(const float *x, int64_t n, uint16_t out[4]) {
    float32x4_t v = vminq_f32(vmaxq_f32(slm_load4(x, n), vdupq_n_f32(-65504.0f)), vdupq_n_f32(65504.0f));
    vst1_u16(out, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

void slm_kv_store_f16_neon(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    uint16_t *keys = rows->keys, *values = rows->values;
    for (int64_t i = 0; i < d; i += 4) {
        uint16_t k[4], v[4];
        halves(key + i, d - i, k);
        halves(value + i, d - i, v);
        for (int64_t j = 0; j < 4 && i + j < d; j++) keys[slm_key_index(SLM_F16, d, row, i + j)] = k[j];
        for (int64_t j = 0; j < 4 && i + j < d; j++) values[slm_value_index(SLM_F16, row, i + j)] = v[j];
    }
}
