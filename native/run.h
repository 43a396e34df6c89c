/* Executes a program: chunk by chunk, all threads in lock-step through its operations. */
#ifndef SLM_RUN_H
#define SLM_RUN_H

#include <stdatomic.h>

#include "kv.h"
#include "pool.h"

typedef struct slm_runner {
    slm_program program;
    const slm_kernels *kernels;
    slm_pool *pool;
    int threads;
    float *arena;           /* the values of one chunk */
    float *angles;          /* (SLM_CHUNK, angle_floats) */
    unsigned char *packed;  /* (SLM_CHUNK, packed_row_bytes): the input of the LINEAR under way */
    unsigned char *scratch; /* (threads, scratch_stride) */
    size_t scratch_stride;
    atomic_llong *next; /* per operation: the next piece of work that nobody has taken */
} slm_runner;

/* Takes over a checked program, which is emptied on success. Rows are allocated here, so that running allocates only cache blocks. */
enum slm_status slm_runner_open(slm_runner *runner, slm_program *program, const slm_kernels *kernels, int threads);
void slm_runner_close(slm_runner *runner);

/* See slm_session_run. Not to be called twice at once. */
enum slm_status slm_runner_run(slm_runner *runner, slm_kv *kv, const int32_t *ids, int64_t n, int all_rows, float *logits,
                               atomic_int *cancelled);

#endif
