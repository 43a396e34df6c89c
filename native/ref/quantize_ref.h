/* Rounding as the ref quantisers need it, in a form that a compiler vectorises with baseline instructions. */
#ifndef SLM_QUANTIZE_REF_H
#define SLM_QUANTIZE_REF_H

/* Rounds |x| < 2^22 to the nearest integer, ties to even: after the sum the unit in the last place is one. */
static inline float slm_round_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static inline float slm_clamp(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

#endif
