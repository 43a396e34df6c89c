#include "pack_neon.h"

static inline int8x16x2_t in_order(int8x16_t low, int8x16_t high) { return (int8x16x2_t){{low, high}}; }

void slm_pack_q8_neon(const float *x, int64_t k, int32_t group, void *out) { slm_pack_neon(x, k, group, 128, in_order, out); }
