/* template/dense.h for NEON: tiles of 4 outputs by 4 tokens, which keep two multipliers busy and leave registers for loads ahead. */
#include "float_neon.h"

#define VEC float32x4_t
#define LANES 4
#define TOKENS 4
#define ZERO() vdupq_n_f32(0)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define LOAD(p) vld1q_f32(p)
#define LOAD_PART(p, n) slm_load4(p, n)
#define LOAD_HALF(p) slm_load_half4(p)
#define LOAD_HALF_PART(p, n) slm_load_half4_part(p, n)
#define STORE(p, v) vst1q_f32(p, v)
#define SUM4(out, a, b, c, d) vst1q_f32(out, slm_sum4(a, b, c, d))
#include "template/dense.h"
