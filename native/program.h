/* A decoder as a flat array of operations over an arena of values: what the engine executes. Model families need no C.
 *
 * The caller fills the arrays of a program, whose contents derive from untrusted files; slm_program_check then proves every index,
 * width and size once, so that running it needs no further checks. A value has `width` floats per row (token).
 */
#ifndef SLM_PROGRAM_H
#define SLM_PROGRAM_H

#include "kernels.h"
#include "status.h"

#define SLM_CHUNK 256      /* rows of one pass: longer prompts run chunk by chunk */
#define SLM_SEGMENTS 3     /* matrices that one LINEAR may multiply its input with */
#define SLM_NONE (-1)      /* no bias, no rope */
#define SLM_LOGITS (-2)    /* output of the last LINEAR: the caller's memory */
#define SLM_MAX_WIDTH (1 << 20)

enum slm_op_kind {
    SLM_EMBED,    /* out[0] = rows of matrix weight[0], times scale */
    SLM_NORM,     /* out[0] (+)= RMS norm of each of `groups` slices of in[0], times vector weight[0] */
    SLM_LINEAR,   /* out[s] (+)= in[0] by matrix weight[s], plus vector bias[s], capped by softcap; s < segments */
    SLM_KV_STORE, /* rotates and scales in[0] (q) in place, rotates in[1] (k), appends k and in[2] (v) to the cache of `layer` */
    SLM_ATTEND,   /* out[0] = attention of in[0] (q) over the cache of `layer` */
    SLM_ACT_MUL,  /* in[0] = act(in[0]) * in[1] */
    SLM_SELECT,   /* out[0] = the rows of in[0] whose logits are wanted */
    SLM_OP_KIND_COUNT
};

typedef struct slm_op {
    int32_t kind;
    int32_t in[3], out[SLM_SEGMENTS];             /* values */
    int32_t weight[SLM_SEGMENTS], bias[SLM_SEGMENTS]; /* matrices or vectors, as the kind says */
    int32_t segments, groups, act, layer;
    int32_t accumulate;                           /* add to out instead of writing it */
    float scale, eps, softcap;                    /* 0: no cap */
} slm_op;

/* A matrix and the bytes that the file really has for it. */
typedef struct slm_weight {
    slm_matrix matrix;
    uint64_t data_bytes, scales_bytes;
} slm_weight;

typedef struct slm_vector {
    const float *data;
    int64_t n;
} slm_vector;

/* Rotation of the first 2 * half values of a head; q is also multiplied by 1 + q_beta ln(1 + floor(position / q_period)). */
typedef struct slm_rope {
    const float *inv_freq; /* (half) */
    int64_t half;
    float scale; /* multiplies cos and sin */
    float q_beta;
    int64_t q_period; /* 0: none */
    int64_t offset;   /* planned: of this rope's cosines within a row of angles; its sines follow */
} slm_rope;

/* Attention of one layer, which is also the owner of one cache. */
typedef struct slm_layer {
    int64_t n_heads, n_kv_heads, head_dim;
    int64_t rope;   /* index or SLM_NONE */
    int64_t window; /* tokens seen, itself included; 0: all */
    float scale, softcap;
} slm_layer;

typedef struct slm_value {
    int64_t width;
    int64_t stride, offset; /* planned: floats between rows; floats from the arena's start */
} slm_value;

typedef struct slm_program {
    int64_t vocab, context;
    int32_t kv_format; /* of keys and values: SLM_F32, SLM_F16 or SLM_Q8 */
    int64_t n_values, n_weights, n_vectors, n_ropes, n_layers, n_ops;
    slm_value *values;
    slm_weight *weights;
    slm_vector *vectors;
    slm_rope *ropes;
    slm_layer *layers;
    slm_op *ops;
    /* Planned by slm_program_check. */
    int64_t arena_floats;   /* all values of SLM_CHUNK rows, sharing memory where lifetimes allow */
    int64_t angle_floats;   /* cosines and sines of all ropes for one row */
    size_t packed_row_bytes; /* longest packed row of any LINEAR's input */
    size_t scratch_bytes;   /* of one thread, for any LINEAR */
} slm_program;

/* Allocates the arrays, zeroed, of the lengths that n_* of *program tell. */
enum slm_status slm_program_alloc(slm_program *program);

/* Frees the arrays; the memory that weights, vectors and ropes point to is the caller's. */
void slm_program_free(slm_program *program);

/* Proves that the program is sound and plans its memory. On failure *where is the index of the culprit within its array. */
enum slm_status slm_program_check(slm_program *program, int64_t *where);

/* Wide operations are spread over outputs or heads, with a barrier before them; the others over rows. */
static inline int slm_op_is_wide(const slm_op *op) {
    return op->kind == SLM_LINEAR || op->kind == SLM_ATTEND || op->kind == SLM_SELECT;
}

/* Query rows that go through the cache together, so that they share the loads of keys and values. */
static inline int64_t slm_attend_tile(const slm_layer *layer) {
    int64_t group = layer->n_heads / layer->n_kv_heads;
    return group >= 16 ? 1 : 16 / group;
}

static inline int64_t slm_round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

#endif
