#include "kernels.h"
#include "math_neon.h"

static float32x4_t sigmoid_times(float32x4_t x, float32x4_t t) { /* x * sigmoid(t) */
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), slm_exp_neon(vnegq_f32(t))));
}

/* 0.5 x (1 + tanh u) = x sigmoid(2 u). */
static float32x4_t gelu_tanh(float32x4_t x) {
    float32x4_t cubic = vmulq_f32(vmulq_f32(x, x), vmulq_n_f32(x, 0.044715f));
    return sigmoid_times(x, vmulq_n_f32(vaddq_f32(x, cubic), 2 * 0.79788456f));
}

/* erf(x), within 4e-7 absolute: x P(x^2) / Q(x^2), the rational approximation of Eigen (generic_fast_erf_float). */
static float32x4_t erf4(float32x4_t x) {
    static const float P[] = {-2.72614225801306e-10f, 2.77068142495902e-08f, -2.10102402082508e-06f, -5.69250639462346e-05f,
                              -7.34990630326855e-04f, -2.95459980854025e-03f, -1.60960333262415e-02f};
    static const float Q[] = {-1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f,
                              -1.42647390514189e-02f};
    x = vmaxq_f32(vdupq_n_f32(-4.0f), vminq_f32(vdupq_n_f32(4.0f), x));
    float32x4_t square = vmulq_f32(x, x), p = vdupq_n_f32(P[0]), q = vdupq_n_f32(Q[0]);
    for (int i = 1; i < 7; i++) p = vfmaq_f32(vdupq_n_f32(P[i]), p, square);
    for (int i = 1; i < 5; i++) q = vfmaq_f32(vdupq_n_f32(Q[i]), q, square);
    return vdivq_f32(vmulq_f32(x, p), q);
}

static float32x4_t gelu(float32x4_t x) {
    float32x4_t y = erf4(vmulq_n_f32(x, 0.70710678f));
    return vmulq_f32(vmulq_n_f32(x, 0.5f), vaddq_f32(vdupq_n_f32(1.0f), y));
}

void slm_act_mul_neon(float *gate, const float *up, int64_t n, int act) {
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t x = slm_load4(gate + i, n - i);
        x = act == SLM_SILU ? sigmoid_times(x, x) : act == SLM_GELU ? gelu(x) : gelu_tanh(x);
        slm_store4(gate + i, n - i, vmulq_f32(x, slm_load4(up + i, n - i)));
    }
}
