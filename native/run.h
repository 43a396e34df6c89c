/* Executes a program over the rows of one or several sessions, chunk by chunk. */
#ifndef SLM_RUN_H
#define SLM_RUN_H

#include <stdatomic.h>

#include "engine.h"
#include "kv.h"
#include "pool.h"

/* A row of a pass: one token of one session. */
typedef struct slm_token {
    slm_kv *kv;
    int64_t position;
    int32_t id;
} slm_token;

typedef struct slm_runner {
    slm_program program;
    const slm_kernels *kernels;
    slm_pool *pool;
    int threads;
    slm_token *tokens;      /* (SLM_CHUNK): the rows of the pass under way */
    int32_t *wanted;        /* (SLM_CHUNK): those of them whose logits are wanted, in order */
    int32_t *tiles;         /* (SLM_CHUNK + 1): where the tiles of the ATTEND under way begin, and where the last one ends */
    float *arena;           /* the values of one chunk */
    float *angles;          /* (SLM_CHUNK, angle_floats) */
    unsigned char *packed;  /* (SLM_CHUNK, packed_row_bytes): the input of the LINEAR under way */
    unsigned char *scratch; /* (threads, scratch_stride) */
    size_t scratch_stride;
    float *partials;        /* by KV head: results of blocks in the ATTEND under way */
    atomic_llong *unfinished; /* by KV head: pieces of it */
    size_t bytes; /* of all of these rows */
    int64_t *wide; /* indices of the wide operations, in order */
    int64_t n_wide;
} slm_runner;

/* Takes over a checked program, which is emptied on success. Rows are allocated here, so that running allocates only cache blocks. */
enum slm_status slm_runner_open(slm_runner *runner, slm_program *program, const slm_kernels *kernels, int threads);
void slm_runner_close(slm_runner *runner);

/* Is one of the sessions to stop? */
int slm_any_cancelled(const slm_segment *segments, int64_t count);

/* Appends to sessions that have been cut to where their segments start; see slm_sessions_run. Not to be called twice at once. */
enum slm_status slm_runner_run(slm_runner *runner, const slm_segment *segments, int64_t count, float *logits, slm_watch *watch);

#endif
