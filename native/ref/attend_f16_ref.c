#include "rows.h"

#define FORMAT SLM_F16
#define AT(data, i) slm_half_to_float(((const uint16_t *)(data))[i])
#include "attend_float_ref.h"

void slm_attend_f16_ref(const slm_attend *a) { slm_attend_ref(a, score, gather); }
