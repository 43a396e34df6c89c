/* One pass of a chunk of rows through the program, as the operations see it. Rows of one session are neighbours, in order. */
#ifndef SLM_PASS_H
#define SLM_PASS_H

#include <stdatomic.h>

#include "run.h"

typedef struct slm_pass {
    slm_runner *runner;
    const slm_segment *segments; /* of the whole run */
    int64_t count;
    int64_t segment, done; /* the first that has ids left for later passes, and how many of its ids are in earlier ones and this one */
    int64_t rows;   /* 1..SLM_CHUNK: runner->tokens */
    int64_t wanted; /* rows of logits, 0..rows: runner->wanted */
    float *logits;  /* where they go */
    slm_watch *watch;
    atomic_int stopped;
    int64_t live_rows; /* of values now: all rows, behind SELECT those wanted */
    int finished;
} slm_pass;

/* What row i is. */
static inline const slm_token *slm_token_at(const slm_pass *pass, int64_t i) { return pass->runner->tokens + i; }

/* Row i of a value. */
static inline float *slm_row(const slm_pass *pass, int32_t value, int64_t i) {
    const slm_value *v = pass->runner->program.values + value;
    return pass->runner->arena + v->offset + i * v->stride;
}

/* Row i of the angles of a rope: cosines, then sines. */
static inline float *slm_angles(const slm_pass *pass, const slm_rope *rope, int64_t i) {
    return pass->runner->angles + i * pass->runner->program.angle_floats + rope->offset;
}

static inline void *slm_scratch(const slm_pass *pass, int thread) {
    return pass->runner->scratch + (size_t)thread * pass->runner->scratch_stride;
}

/* Operations on the rows i0..i1-1. */
void slm_pass_angles(slm_pass *pass, int64_t i0, int64_t i1);
void slm_pass_embed(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_norm(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_act_mul(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_pack(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_kv_store(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);

/* Wide operations: how many pieces there are, and one of them. */
int64_t slm_pass_linear_pieces(const slm_pass *pass, const slm_op *op);
void slm_pass_linear(slm_pass *pass, const slm_op *op, int64_t piece, void *scratch);
int64_t slm_pass_attend_pieces(slm_pass *pass, const slm_op *op);
void slm_pass_attend(slm_pass *pass, const slm_op *op, int64_t piece, void *scratch);

/* What attention needs in any layer: scratch bytes of one thread; of all threads together, floats for results that wait to be merged, and
 * counters, one for each KV head. */
typedef struct slm_attend_sizes {
    size_t scratch_bytes;
    int64_t partial_floats, kv_heads;
} slm_attend_sizes;

slm_attend_sizes slm_attend_sizes_of(const slm_program *program);

#endif
