#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* Turns of waiting awake before sleeping: some tens of microseconds, longer than an operation and the pause between two tokens,
 * shorter than anything a user or a battery notices. */
#define SPINS 2000

/* What can be taken now, in one word so that a late thread cannot take from a stage that is over: serial number of the
 * stage (upper half), and pieces left or IDLE, to which CLOSED may be added (lower half). */
typedef atomic_uint_fast64_t ticket;
#define IDLE ((int64_t)1 << 31)
#define CLOSED ((int64_t)1 << 30)

struct slm_pool {
    int threads, spins;
    pid_t owner;
    /* Written between stages only. */
    const slm_job *job;
    int64_t stage;
    /* Apart, so that waiting for one does not slow writers of the others. */
    _Alignas(64) ticket open;
    _Alignas(64) atomic_llong unfinished; /* pieces of the stage */
    _Alignas(64) atomic_int sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t handles[SLM_MAX_THREADS];
};

typedef struct start_argument {
    slm_pool *pool;
    int thread;
} start_argument;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield is a no-op on most cores; isb waits a few tens of cycles */
#endif
}

static uint64_t serial(uint64_t open) { return open >> 32; }

/* Waits until another stage than that of `seen` is open. */
static void await_stage(slm_pool *pool, uint64_t seen) {
    for (int i = 0; i < pool->spins; i++) {
        if (serial(atomic_load_explicit(&pool->open, memory_order_acquire)) != serial(seen)) return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (serial(atomic_load(&pool->open)) == serial(seen)) pthread_cond_wait(&pool->changed, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

/* Opens a stage of n pieces, or none (IDLE). A sleeper announces itself before its last look at the ticket, and we look for
 * sleepers after changing it: with both sequentially consistent, one of the two sees the other. */
static void open_stage(slm_pool *pool, int64_t n) {
    atomic_store_explicit(&pool->unfinished, n, memory_order_relaxed); /* published by the ticket */
    atomic_store(&pool->open, ((serial(atomic_load(&pool->open)) + 1) << 32) | (uint64_t)n);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
}

/* Goes on behind a finished stage: what is a single piece is done here and now, for the others would only wait for it. */
static void advance(slm_pool *pool, int thread) {
    const slm_job *job = pool->job;
    for (;;) {
        int64_t n = job->pieces(job->context, ++pool->stage);
        if (n == SLM_END) break;
        if (n > 1 && pool->threads > 1) {
            open_stage(pool, n);
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            job->work(job->context, pool->stage, i, thread);
            if (thread == 0) job->between(job->context);
        }
    }
    open_stage(pool, IDLE); /* the caller may return from here on */
}

/* Does pieces of the open stage until none is left; returns the ticket then seen. */
static uint64_t help(slm_pool *pool, int thread) {
    uint64_t open = atomic_load_explicit(&pool->open, memory_order_acquire);
    while ((uint32_t)open && !(open & IDLE)) {
        if (!atomic_compare_exchange_weak(&pool->open, &open, open - 1)) continue;
        pool->job->work(pool->job->context, pool->stage, (int64_t)(uint32_t)open - 1, thread);
        if (atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_acq_rel) == 1) advance(pool, thread);
        if (thread == 0) pool->job->between(pool->job->context);
        open = atomic_load_explicit(&pool->open, memory_order_acquire);
    }
    return open;
}

static void *serve(void *argument) {
    start_argument start = *(start_argument *)argument;
    free(argument);
    for (uint64_t seen; !((seen = help(start.pool, start.thread)) & CLOSED);) await_stage(start.pool, seen);
    return NULL;
}

void slm_pool_run(slm_pool *pool, const slm_job *job) {
    pool->job = job;
    pool->stage = -1;
    advance(pool, 0);
    for (uint64_t seen; !((seen = help(pool, 0)) & IDLE);) {
        job->between(job->context);
        await_stage(pool, seen);
    }
}

static int start_thread(slm_pool *pool, int thread) {
    start_argument *argument = malloc(sizeof *argument);
    if (!argument) return 0;
    *argument = (start_argument){pool, thread};
    if (pthread_create(&pool->handles[thread], NULL, serve, argument) == 0) return 1;
    free(argument);
    return 0;
}

/* Threads 1.. of the pool; returns how many threads there are then. */
static int start_threads(slm_pool *pool, int threads) {
    sigset_t all, before; /* signals belong to the threads of the host program */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = 1;
    while (started < threads && start_thread(pool, started)) started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

enum slm_status slm_pool_open(int threads, slm_pool **out) {
    slm_pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
    if (!pool) return SLM_NO_MEMORY;
    *pool = (slm_pool){.threads = threads, .owner = getpid(), .open = IDLE};
    pool->spins = threads <= sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 0; /* where threads share a core, spinning steals it */
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->changed, NULL);
    int started = start_threads(pool, threads);
    *out = pool;
    if (started == threads) return SLM_OK;
    pool->threads = started;
    slm_pool_close(pool);
    *out = NULL;
    return SLM_NO_THREADS;
}

void slm_pool_close(slm_pool *pool) {
    if (!pool) return;
    if (pool->owner == getpid()) {
        open_stage(pool, IDLE | CLOSED);
        for (int i = 1; i < pool->threads; i++) pthread_join(pool->handles[i], NULL);
        pthread_cond_destroy(&pool->changed);
        pthread_mutex_destroy(&pool->mutex);
    }
    free(pool);
}
