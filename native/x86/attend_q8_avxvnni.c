#include "attend_avx2.h"
#include "attend_round_avx2.h"

INLINE void add_products(__m256i *sum, __m256i a, __m256i b) {
#if defined(__GNUC__) && !defined(SLM_SIMDE) /* with the intrinsic, gcc keeps copies of the sums in memory */
    __asm__ volatile("%{vex%} vpdpwssd %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
#else
    *sum = _mm256_dpwssd_avx_epi32(*sum, a, b);
#endif
}

#include "attend_q8.h"

void slm_attend_q8_avxvnni(const slm_attend *a) { attend(a, score, gather); }
