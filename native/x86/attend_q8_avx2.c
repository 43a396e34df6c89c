#include "attend_avx2.h"
#include "attend_round_avx2.h"
#include "lanes_avx2.h"

INLINE void add_products(__m256i *sum, __m256i a, __m256i b) { slm_add_int32(sum, _mm256_madd_epi16(a, b)); }

#include "attend_q8.h"

void slm_attend_q8_avx2(const slm_attend *a) { attend(a, score, gather); }
