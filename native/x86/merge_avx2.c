#include "math_avx2.h"

#define VEC __m256
#define LANES 8
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define SET1(x) _mm256_set1_ps(x)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define FMA(acc, a, b) _mm256_fmadd_ps(a, b, acc)
#define EXP(v) slm_exp_avx2(v)
#include "template/merge.h"

void slm_merge_avx2(slm_softmax total, slm_softmax part, int64_t n_q, int64_t width) { merge(total, part, n_q, width); }
