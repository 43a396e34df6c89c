#include "math_neon.h"

#define VEC float32x4_t
#define LANES 4
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define SET1(x) vdupq_n_f32(x)
#define MUL(a, b) vmulq_f32(a, b)
#define FMA(acc, a, b) vfmaq_f32(acc, a, b)
#define EXP(v) slm_exp_neon(v)
#include "template/merge.h"

void slm_merge_neon(slm_softmax total, slm_softmax part, int64_t n_q, int64_t width) { merge(total, part, n_q, width); }
