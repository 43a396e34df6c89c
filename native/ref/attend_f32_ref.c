#define FORMAT SLM_F32
#define AT(data, i) (((const float *)(data))[i])
#include "attend_float_ref.h"

void slm_attend_f32_ref(const slm_attend *a) { slm_attend_ref(a, score, gather); }
