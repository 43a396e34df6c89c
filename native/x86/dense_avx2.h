/* template/dense.h for AVX2: tiles of 4 outputs by 3 tokens fill the 16 registers. */
#include "float_avx2.h"

#define VEC __m256
#define LANES 8
#define TOKENS 3
#define ZERO() _mm256_setzero_ps()
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LOAD(p) _mm256_loadu_ps(p)
#define LOAD_PART(p, n) _mm256_maskload_ps(p, slm_mask8(n))
#define LOAD_HALF(p) slm_load_half8(p)
#define LOAD_HALF_PART(p, n) slm_load_half8_part(p, n)
#define STORE(p, v) _mm256_store_ps(p, v)
#define SUM4(out, a, b, c, d) _mm_storeu_ps(out, slm_sum4(a, b, c, d))
#include "template/dense.h"
