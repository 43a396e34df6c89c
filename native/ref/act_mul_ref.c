#include <math.h>

#include "kernels.h"

static float silu(float x) { return x / (1.0f + expf(-x)); }

static float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

/* As torch's gelu(approximate="tanh"). */
static float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

void slm_act_mul_ref(float *gate, const float *up, int64_t n, int act) {
    for (int64_t i = 0; i < n; i++) {
        float x = gate[i];
        gate[i] = (act == SLM_SILU ? silu(x) : act == SLM_GELU ? gelu(x) : gelu_tanh(x)) * up[i];
    }
}
