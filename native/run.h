/* Executes a program chunk by chunk. */
#ifndef SLM_RUN_H
#define SLM_RUN_H

#include <stdatomic.h>

#include "kv.h"
#include "pool.h"
#include "watch.h"

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
    int64_t *wide; /* indices of the wide operations, in order */
    int64_t n_wide;
} slm_runner;

/* Takes over a checked program, which is emptied on success. Rows are allocated here, so that running allocates only cache blocks. */
enum slm_status slm_runner_open(slm_runner *runner, slm_program *program, const slm_kernels *kernels, int threads);
void slm_runner_close(slm_runner *runner);

/* Who may stop a run between operations: any thread by `cancelled`, the calling one by `watch`. */
typedef struct slm_stop {
    atomic_int *cancelled;
    slm_watch *watch;
} slm_stop;

/* See slm_session_run. Not to be called twice at once. */
enum slm_status slm_runner_run(slm_runner *runner, slm_kv *kv, const int32_t *ids, int64_t n, int all_rows, float *logits,
                               slm_stop stop);

#endif
