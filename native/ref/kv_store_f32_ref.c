#include "kv_rows.h"

void slm_kv_store_f32_ref(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    float *keys = rows->keys, *values = rows->values;
    for (int64_t i = 0; i < d; i++) keys[slm_key_index(SLM_F32, d, row, i)] = key[i];
    for (int64_t i = 0; i < d; i++) values[slm_value_index(SLM_F32, row, i)] = value[i];
}
