#include "kv_rows.h"
#include "pack_ref.h"

void slm_kv_store_q8_ref(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row) {
    int8_t *keys = rows->keys, *values = rows->values;
    float key_peak = slm_peak_ref(key, d), value_peak = slm_peak_ref(value, d);
    for (int64_t i = 0; i < d; i++)
        keys[slm_key_index(SLM_Q8, d, row, i)] = slm_round_byte_ref(key[i], slm_byte_inverse_ref(key_peak));
    for (int64_t i = 0; i < d; i++)
        values[slm_value_index(SLM_Q8, row, i)] = slm_round_byte_ref(value[i], slm_byte_inverse_ref(value_peak));
    rows->key_scales[row] = slm_byte_scale_ref(key_peak);
    rows->value_scales[row] = slm_byte_scale_ref(value_peak);
}
