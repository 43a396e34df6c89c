/* Threads that work in lock-step. The caller is thread 0; the others sleep while there is nothing to do. */
#ifndef SLM_POOL_H
#define SLM_POOL_H

#include "status.h"

#define SLM_MAX_THREADS 256

typedef struct slm_pool slm_pool;
typedef void slm_task_fn(void *context, int thread);

/* Starts threads - 1 threads (1 <= threads <= SLM_MAX_THREADS). */
enum slm_status slm_pool_open(int threads, slm_pool **pool);

/* Ends the threads and frees the pool; NULL is allowed. In a forked child, where the threads do not exist, it only frees. */
void slm_pool_close(slm_pool *pool);

/* Calls task(context, t) on every thread t and returns when all have returned. One call at a time. */
void slm_pool_run(slm_pool *pool, slm_task_fn *task, void *context);

/* Within a task: waits until every thread has come here; what they wrote before is then visible to all. */
void slm_pool_barrier(slm_pool *pool);

#endif
