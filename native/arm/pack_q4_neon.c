#include "pack_neon.h"

static inline int8x16x2_t even_then_odd(int8x16_t low, int8x16_t high) {
    return (int8x16x2_t){{vuzp1q_s8(low, high), vuzp2q_s8(low, high)}};
}

void slm_pack_q4_neon(const float *x, int64_t k, int32_t group, void *out) { slm_pack_neon(x, k, group, 8, even_then_odd, out); }
