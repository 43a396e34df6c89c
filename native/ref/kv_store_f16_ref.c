#include "kv_rows.h"
#include "rows.h"

void slm_kv_store_f16_ref(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    uint16_t *keys = rows->keys, *values = rows->values;
    for (int64_t i = 0; i < d; i++) keys[slm_key_index(SLM_F16, d, row, i)] = slm_float_to_half(key[i]);
    for (int64_t i = 0; i < d; i++) values[slm_value_index(SLM_F16, row, i)] = slm_float_to_half(value[i]);
}
