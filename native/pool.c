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

struct slm_pool {
    int threads, spins;
    pid_t owner;
    slm_task_fn *task;
    void *context;
    /* Apart, so that spinning on one does not slow writers of the others. */
    _Alignas(64) atomic_uint arrived;  /* at the current barrier */
    _Alignas(64) atomic_uint passed;   /* barriers that all have reached */
    _Alignas(64) atomic_uint started;  /* tasks given out */
    atomic_uint sleepers;
    atomic_int closing;
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

/* Waits until *word is no longer `old`. */
static void await_change(slm_pool *pool, atomic_uint *word, unsigned old) {
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(word) == old) pthread_cond_wait(&pool->changed, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

/* A sleeper announces itself before its last look at the word, and we look for sleepers after changing it: with both sequentially
 * consistent, one of the two sees the other. */
static void announce(slm_pool *pool, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
}

void slm_pool_barrier(slm_pool *pool) {
    if (pool->threads == 1) return;
    unsigned passed = atomic_load_explicit(&pool->passed, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == (unsigned)pool->threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed); /* published by the change of `passed` */
        announce(pool, &pool->passed);
    } else {
        await_change(pool, &pool->passed, passed);
    }
}

static void *work(void *argument) {
    start_argument start = *(start_argument *)argument;
    slm_pool *pool = start.pool;
    free(argument);
    for (unsigned done = 0;; done++) {
        await_change(pool, &pool->started, done);
        if (atomic_load(&pool->closing)) return NULL;
        pool->task(pool->context, start.thread);
        slm_pool_barrier(pool);
    }
}

void slm_pool_run(slm_pool *pool, slm_task_fn *task, void *context) {
    pool->task = task;
    pool->context = context;
    if (pool->threads > 1) announce(pool, &pool->started);
    task(context, 0);
    slm_pool_barrier(pool);
}

static int start_thread(slm_pool *pool, int thread) {
    start_argument *argument = malloc(sizeof *argument);
    if (!argument) return 0;
    *argument = (start_argument){pool, thread};
    if (pthread_create(&pool->handles[thread], NULL, work, argument) == 0) return 1;
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
    *pool = (slm_pool){.threads = threads, .owner = getpid()};
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
        atomic_store(&pool->closing, 1);
        announce(pool, &pool->started);
        for (int i = 1; i < pool->threads; i++) pthread_join(pool->handles[i], NULL);
        pthread_cond_destroy(&pool->changed);
        pthread_mutex_destroy(&pool->mutex);
    }
    free(pool);
}
