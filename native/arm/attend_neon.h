/* template/attend.h for NEON. */
#include "math_neon.h"

/* Lanes first..stop-1 of v, elsewhere of other. */
static inline float32x4_t slm_within_neon(float32x4_t v, int32_t first, int32_t stop, float32x4_t other) {
    static const int32_t LANE[] = {0, 1, 2, 3};
    int32x4_t lanes = vld1q_s32(LANE);
    uint32x4_t inside = vandq_u32(vcgeq_s32(lanes, vdupq_n_s32(first)), vcltq_s32(lanes, vdupq_n_s32(stop)));
    return vbslq_f32(inside, v, other);
}

#define VEC float32x4_t
#define LANES 4
#define ZERO() vdupq_n_f32(0)
#define SET1(x) vdupq_n_f32(x)
#define LOAD(p) vld1q_f32(p)
#define LOAD_HALF(p) slm_load_half4(p)
#define STORE(p, v) vst1q_f32(p, v)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define DIV(a, b) vdivq_f32(a, b)
#define MAX(a, b) vmaxq_f32(a, b)
#define FMA_SCALAR(acc, v, x) vfmaq_n_f32(acc, v, x)
#define EXP(v) slm_exp_neon(v)
#define TANH(v) slm_tanh_neon(v)
#define WITHIN(v, first, stop, other) slm_within_neon(v, first, stop, other)
#define SUM(v) vaddvq_f32(v)
#define LARGEST(v) vmaxvq_f32(v)
#define PEAK(a, b) vmaxq_f32(a, b)
#define PEAK_OF(v) vmaxvq_f32(v)
#include "template/attend.h"
