#include "pack_avx2.h"

static inline __m256i in_order(__m256i values) { return values; }

void slm_pack_q8_avx2(const float *x, int64_t k, int32_t group, void *out) { slm_pack_avx2(x, k, group, 128, in_order, out); }
