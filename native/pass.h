/* One pass of a chunk of rows through the program, as the operations see it. */
#ifndef SLM_PASS_H
#define SLM_PASS_H

#include "run.h"

typedef struct slm_pass {
    slm_runner *runner;
    slm_kv *kv;
    const int32_t *ids; /* (rows) */
    int64_t rows;       /* 1..SLM_CHUNK */
    int64_t start;      /* position of the first */
    int64_t wanted;     /* rows of logits: 0, 1 (the last) or all */
    float *logits;
    atomic_int *cancelled;
    atomic_llong stop_at; /* barrier behind which all threads stop */
} slm_pass;

/* One thread's view of the pass. */
typedef struct slm_worker {
    slm_pass *pass;
    int thread;
    int64_t rows;    /* of values now: pass->rows, behind SELECT those wanted */
    int64_t barriers; /* passed so far */
    int after_wide;  /* others may still be at work on what this thread would read */
    void *scratch;
} slm_worker;

/* Row i of a value. */
static inline float *slm_row(const slm_pass *pass, int32_t value, int64_t i) {
    const slm_value *v = pass->runner->program.values + value;
    return pass->runner->arena + v->offset + i * v->stride;
}

/* Row i of the angles of a rope: cosines, then sines. */
static inline float *slm_angles(const slm_pass *pass, const slm_rope *rope, int64_t i) {
    return pass->runner->angles + i * pass->runner->program.angle_floats + rope->offset;
}

/* The next piece of work of operation `op` among `count`, or -1. */
static inline int64_t slm_take(slm_pass *pass, const slm_op *op, int64_t count) {
    int64_t i = atomic_fetch_add_explicit(&pass->runner->next[op - pass->runner->program.ops], 1, memory_order_relaxed);
    return i < count ? i : -1;
}

/* Operations on the rows i0..i1-1. */
void slm_pass_angles(slm_pass *pass, int64_t i0, int64_t i1);
void slm_pass_embed(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_norm(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_act_mul(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_pack(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);
void slm_pass_kv_store(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);

/* Wide operations: each thread takes pieces until none is left. */
void slm_pass_linear(slm_worker *worker, const slm_op *op);
void slm_pass_attend(slm_worker *worker, const slm_op *op);

#endif
