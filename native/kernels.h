/* Kernel interface: what a kernel of each op computes, and the table through which they are called.
 *
 * Rows are tokens (m), outputs n, inputs k. A kernel never allocates, never fails, and writes only what its comment says. Callers
 * (the program runner) have checked every size. Strides are in elements unless the name says bytes.
 */
#ifndef SLM_KERNELS_H
#define SLM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum slm_format { SLM_F32, SLM_F16, SLM_Q8, SLM_Q4, SLM_FORMAT_COUNT };
/* Of one architecture in rising order of speed. A CPU that has one need not have those before it (AVX-VNNI came after AVX-512). */
enum slm_isa {
    SLM_ISA_REF,
    SLM_ISA_AVX2,
    SLM_ISA_AVXVNNI,
    SLM_ISA_AVX512VL, /* AVX-512's instructions on 256 bits */
    SLM_ISA_AVX512,
    SLM_ISA_NEON,
    SLM_ISA_DOTPROD,
    SLM_ISA_I8MM,
    SLM_ISA_COUNT
};
enum slm_act { SLM_SILU, SLM_GELU, SLM_GELU_TANH, SLM_ACT_COUNT };

/* A weight where it lies in the mapped file (formats: edgeslm/formats).
 *   f32, f16   data (n, k)
 *   q8         data (n, groups, group) uint8, zero point 128; scales (n, groups) f16
 *   q4         data (n, groups, group / 2) uint8, low nibble first, zero point 8; scales (n, groups) f16
 * The weight is (q - zero point) * scale of its group * scale; that of the matrix is a power of two, and 1 for f32 and f16.
 * groups = ceil(k / group); group is 32, 64 or 128, and 0 for f32 and f16. data and scales are 16-byte aligned. */
typedef struct slm_matrix {
    int32_t format, group;
    int64_t n, k;
    const void *data;
    const uint16_t *scales;
    float scale;
} slm_matrix;

/* Activation rows as the kernels of a format read them. f32, f16: the float32 rows themselves, k values.
 *   q8, q4     int8 values[kp], float scales[groups], int32 corrections[groups];  kp = groups * group
 *              a = value * scale, scale = max |x| / 127 over the group, value in -127..127, padding 0.
 *              q8: values in order. q4: per 32 values first the 16 of even index, then the 16 of odd index, as the nibbles lie.
 *              corrections = -(zero point of the weights) * sum of the group's values.
 * One arithmetic: acc = sum over groups, in order, of (float)(sum q * value + correction) * (group's weight scale * activation scale),
 * times the matrix's scale. The integers are exact and the floats rounded after each operation, so every ISA gives the same bits, for
 * any m and any n0, n1.
 * f32 and f16: a variant may keep partial sums, but the same ones for any m, so that rows together equal rows alone bit for bit. */
static inline int64_t slm_groups(int64_t k, int64_t group) { return (k + group - 1) / group; }

static inline size_t slm_act_row_bytes(int32_t format, int64_t k, int32_t group) {
    if (format == SLM_F32 || format == SLM_F16) return (size_t)k * sizeof(float);
    int64_t groups = slm_groups(k, group);
    return (size_t)((groups * group + groups * 8 + 63) / 64 * 64);
}

/* Quantise one float32 row x (k) into out (slm_act_row_bytes). */
typedef void slm_pack_fn(const float *x, int64_t k, int32_t group, void *out);

/* Outputs that a kernel works on at once at most: ranges n0..n1 that begin at multiples of it waste nothing. */
#define SLM_LINEAR_STEP 32

/* Scratch of one thread for any linear kernel: a panel of weight rows as a kernel unpacks it. */
static inline size_t slm_linear_scratch(const slm_matrix *w) {
    if (w->format == SLM_F32) return 0;
    if (w->format == SLM_F16) return (size_t)(w->k + 15) / 16 * 16 * sizeof(float) * SLM_LINEAR_STEP;
    int64_t groups = slm_groups(w->k, w->group);
    return (size_t)(groups * w->group + groups * (int64_t)sizeof(float)) * SLM_LINEAR_STEP;
}

/* y[i][j] = bias[j] + sum_k w[j][k] x[i][k] for i in 0..m-1, j in n0..n1-1; with accumulate, added to y. x: packed rows, x_stride
 * bytes apart, 64-byte aligned (f32, f16: at least 4-byte, faster with 64); y: row stride in floats; bias may be NULL (indexed by j); scratch:
 * slm_linear_scratch bytes, private to the thread, 64-byte aligned. */
typedef void slm_linear_fn(const slm_matrix *w, int64_t n0, int64_t n1, const void *x, size_t x_stride, int64_t m, float *y,
                           int64_t y_stride, const float *bias, int accumulate, void *scratch);

/* Row `row` of w as float32, times scale, into out (k). */
typedef void slm_embed_fn(const slm_matrix *w, int64_t row, float scale, float *out);

/* float32 rows (n, k), finite, to a weight's data and float32 scales (n, groups), which have the significand of a half: what the whole
 * tensor's halves are made of. Every ISA gives the same bits. */
typedef void slm_quantize_fn(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales);

/* out = x / sqrt(mean(x^2) + eps) * weight over n values; out may be x. With accumulate, added to out. */
typedef void slm_norm_fn(const float *x, const float *weight, float eps, int64_t n, float *out, int accumulate);

/* gate[i] = act(gate[i]) * up[i]. */
typedef void slm_act_mul_fn(float *gate, const float *up, int64_t n, int act);

/* Half-split rotation of one head in place: pairs (x[i], x[i + half]) by cos[i], sin[i]. */
typedef void slm_rope_fn(float *x, const float *cosine, const float *sine, int64_t half);

/* The sum of exp(x[i] - top) over n values, none of which is larger than top by more than 80; -INFINITY counts nothing. */
typedef float slm_exp_sum_fn(const float *x, int64_t n, float top);

/* Rows of a block of a cache: attention goes by blocks of positions, so a sum's order depends on nothing but positions. */
#define SLM_KV_BLOCK 256

/* Values between the queries and the results of attention: d, rounded up. */
static inline int64_t slm_kv_width(int64_t d) { return (d + 15) / 16 * 16; }

/* The rows of one KV head in one block, laid out as kv_rows.h says; 64-byte aligned. */
typedef struct slm_kv_view {
    void *keys, *values;
    float *key_scales, *value_scales; /* (SLM_KV_BLOCK) each of q8, else NULL */
} slm_kv_view;

/* Writes key and value (d each, float32) as row `row` of a block.
 *   f32        as they are
 *   f16        rounded to the nearest even, at most 65504 in magnitude
 *   q8         value * scale, scale = max |x| / 127 over the row, value in -127..127
 * Every ISA gives the same bits. */
typedef void slm_kv_store_fn(const float *key, const float *value, int64_t d, const slm_kv_view *rows, int64_t row);

/* Rows first..stop-1 of a block: what a query sees of it; none where first == stop. */
typedef struct slm_seen {
    int32_t first, stop;
} slm_seen;

/* A softmax over some rows: of each of n_q queries the maximum of its scores q . key, the sum of exp(score - max), and that of exp(score - max)
 * times value. -INFINITY, 0 and 0 where it sees nothing. */
typedef struct slm_softmax {
    float *max, *sum, *acc; /* (n_q), (n_q), (n_q, slm_kv_width(d)) whose padding means nothing */
} slm_softmax;

/* The softmax of n_q query heads, already scaled, that share one KV head, over the rows of one block. softcap 0: none. q8: exact sums of
 * integers, queries rounded to 8 bits and weights to 16. A head's result is the same bits whichever heads share its call. */
typedef struct slm_attend {
    const float *q; /* (n_q, slm_kv_width(d)), padded with zeros */
    int64_t n_q, d;
    const slm_seen *seen; /* (n_q) */
    slm_kv_view rows;
    float softcap;
    slm_softmax out;
    void *scratch;    /* slm_attend_scratch bytes, 64-byte aligned */
    int resumed;      /* not 0: the same q as in the call before, which left scratch as it is */
    slm_kv_view next; /* the block that this thread takes up next, to be on its way by then; NULLs: none */
} slm_attend;

/* For any attend kernel: a row of scores, one of 16-bit weights, a 16-bit query and two scales for each head. */
static inline size_t slm_attend_scratch(int64_t n_q, int64_t d) {
    return (size_t)n_q * ((size_t)SLM_KV_BLOCK * 6 + (size_t)slm_kv_width(d) * 2 + 64);
}

typedef void slm_attend_fn(const slm_attend *a);

/* Adds the softmax over other rows to that of n_q queries, of heads slm_kv_width(d) = width wide. */
typedef void slm_merge_fn(slm_softmax total, slm_softmax part, int64_t n_q, int64_t width);

/* Adds the words to *sum, modulo 2^64, as fast as memory gives them: what tells how fast that is. */
typedef void slm_read_fn(const uint64_t *words, int64_t n, uint64_t *sum);

typedef struct slm_kernels {
    slm_pack_fn *pack[SLM_FORMAT_COUNT];     /* NULL for f32 and f16: rows are used as they are */
    slm_linear_fn *linear[SLM_FORMAT_COUNT];
    slm_embed_fn *embed[SLM_FORMAT_COUNT];
    slm_quantize_fn *quantize[SLM_FORMAT_COUNT]; /* NULL for f32 and f16 */
    slm_norm_fn *norm;
    slm_act_mul_fn *act_mul;
    slm_rope_fn *rope;
    slm_exp_sum_fn *exp_sum;
    slm_kv_store_fn *kv_store[SLM_FORMAT_COUNT]; /* NULL for q4, as is attend */
    slm_merge_fn *merge;
    slm_attend_fn *attend[SLM_FORMAT_COUNT];
    slm_read_fn *read;
} slm_kernels;

#endif
