/* Plain loops over groups of fixed width, written so that a compiler vectorises them with the baseline instructions. Sums run in
 * eight lanes and are added in the order of NumPy's pairwise summation, so that a tie between candidates falls the same way. */
#include "quantize.h"

#include <math.h>
#include <string.h>

#include "kernels.h"

enum { LANES = 8, MAX_GROUP = 128, SEARCH = 8 };

/* Below these an inverse would overflow; the group is stored as zeros. */
static const float TINY_SCALE = 0x1p-126f, TINY_PEAK = 1e-36f;

/* Rounds |x| < 2^22 to the nearest integer, ties to even: at this magnitude the unit in the last place is one. */
static inline float round_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static inline float clamp(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* clamp(round_even(x), -8, 7). The addition leaves the integer in the low bits of the sum, and integers are clamped without
 * branches in every instruction set, where compilers are careful with NaN. */
static inline float round_to_nibble(float x) {
    const int32_t zero = 0x4B400000; /* the bits of 1.5 * 2^23 */
    float shifted = x + 0x1.8p23f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = bits > zero - 8 ? bits : zero - 8;
    bits = bits < zero + 7 ? bits : zero + 7;
    memcpy(&shifted, &bits, sizeof bits);
    return shifted - 0x1.8p23f;
}

static inline float sum_lanes(const float s[LANES]) {
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* The value of largest magnitude, the first on a tie. */
static float peak_of(const float *w, int group) {
    float lanes[LANES] = {0}, magnitude = 0;
    for (int i = 0; i < group; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = fabsf(w[i + l]) > lanes[l] ? fabsf(w[i + l]) : lanes[l];
    for (int l = 0; l < LANES; l++) magnitude = lanes[l] > magnitude ? lanes[l] : magnitude;
    for (int i = 0; i < group; i++)
        if (fabsf(w[i]) == magnitude) return w[i];
    return magnitude;
}

static void quantize_group_q8(const float *w, int group, uint8_t *q, float *scale) {
    *scale = fabsf(peak_of(w, group)) / 127.0f;
    float inverse = *scale >= TINY_SCALE ? 1.0f / *scale : 0.0f;
    for (int i = 0; i < group; i++) q[i] = (uint8_t)(int)(round_even(clamp(w[i] * inverse, -127.0f, 127.0f)) + 128.0f);
}

typedef struct sums {
    float wq, qq;
} sums;

/* Integers of the group at one step, and the sums of w * q and q * q. */
static inline sums try_step(const float *w, int group, float step, float *q) {
    float wq[MAX_GROUP], qq[MAX_GROUP], wq_lanes[LANES] = {0}, qq_lanes[LANES] = {0};
    for (int i = 0; i < group; i++) {
        q[i] = round_to_nibble(w[i] * step);
        wq[i] = w[i] * q[i];
        qq[i] = q[i] * q[i];
    }
    for (int i = 0; i < group; i += LANES)
        for (int l = 0; l < LANES; l++) {
            wq_lanes[l] += wq[i + l];
            qq_lanes[l] += qq[i + l];
        }
    return (sums){sum_lanes(wq_lanes), sum_lanes(qq_lanes)};
}

static void quantize_group_q4(const float *w, int group, uint8_t *data, float *scale) {
    float peak = peak_of(w, group), q[MAX_GROUP], best_gain = -1, best_step = 0;
    float inverse = fabsf(peak) >= TINY_PEAK ? -8.0f / peak : 0.0f;
    for (int c = -SEARCH; c <= SEARCH; c++) {
        float step = inverse * (float)(1 + 0.0125 * c);
        sums s = try_step(w, group, step, q);
        float qq = s.qq > 1.0f ? s.qq : 1.0f, gain = s.wq * s.wq / qq;
        if (gain <= best_gain) continue;
        best_gain = gain;
        best_step = step;
        *scale = s.wq / qq;
    }
    try_step(w, group, best_step, q);
    for (int j = 0; j < group / 2; j++) data[j] = (uint8_t)((int)(q[2 * j] + 8) | (int)(q[2 * j + 1] + 8) << 4);
}

typedef void quantize_group_fn(const float *w, int group, uint8_t *data, float *scale);

/* Calls `quantize` for each group; the last one of a row is padded with zeros. */
static inline void quantize_rows(quantize_group_fn *quantize, const float *rows, int64_t n, int64_t k, int32_t group,
                                 int64_t group_bytes, uint8_t *data, float *scales) {
    int64_t groups = slm_groups(k, group), whole = k / group;
    for (int64_t j = 0; j < n; j++, rows += k)
        for (int64_t g = 0; g < groups; g++, data += group_bytes, scales++) {
            const float *w = rows + g * group;
            float padded[MAX_GROUP] = {0};
            if (g == whole) w = memcpy(padded, w, (size_t)(k - g * group) * sizeof *w);
            quantize(w, group, data, scales);
        }
}

void slm_quantize_q8(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    quantize_rows(quantize_group_q8, rows, n, k, group, group, data, scales);
}

void slm_quantize_q4(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales) {
    quantize_rows(quantize_group_q4, rows, n, k, group, group / 2, data, scales);
}
