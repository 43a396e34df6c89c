/* Threads that work through a job together, stage by stage. The caller is one of them; the others sleep while there is nothing to do.
 *
 * A stage is cut into pieces, which threads take as they come; the next stage begins when all pieces are done. So nobody ever waits
 * for a thread that holds no piece: one that the operating system has put aside delays nothing.
 */
#ifndef SLM_POOL_H
#define SLM_POOL_H

#include <stdint.h>

#include "status.h"

#define SLM_MAX_THREADS 256
#define SLM_END (-1)

typedef struct slm_pool slm_pool;

typedef struct slm_job {
    void *context;
    /* Number of pieces of a stage (less than 2^30; 0: nothing to do), or SLM_END where the job is over. Called for stages 0, 1, …
     * in turn, by one thread at a time, when no piece is under way: it may change what pieces read. */
    int64_t (*pieces)(void *context, int64_t stage);
    void (*work)(void *context, int64_t stage, int64_t piece, int thread);
    /* Called between pieces by the thread that runs the job (thread 0), and by no other. */
    void (*between)(void *context);
} slm_job;

/* Starts threads - 1 threads (1 <= threads <= SLM_MAX_THREADS). */
enum slm_status slm_pool_open(int threads, slm_pool **pool);

/* Ends the threads and frees the pool; NULL is allowed. In a forked child, where the threads do not exist, it only frees. */
void slm_pool_close(slm_pool *pool);

/* The thread that takes a piece of so many, if all are as fast as each other: each has a share of neighbouring pieces, and goes through it in
 * order. Behind the last piece: none, `threads` or more. */
int64_t slm_pool_share(int64_t pieces, int64_t threads, int64_t piece);

/* Runs a job to its end. One call at a time, and only in the process that opened the pool. */
void slm_pool_run(slm_pool *pool, const slm_job *job);

#endif
