#include "pool.h"

#include <stdatomic.h>

#include "system.h"

/* Turns of waiting awake before sleeping: some tens of microseconds, longer than an operation and the pause between two tokens,
 * shorter than anything a user or a battery notices. */
#define SPINS 2000

/* What can be taken now, in one word so that a late thread cannot take from a stage that is over: serial number of the
 * stage (upper half), and pieces left or IDLE, to which CLOSED may be added (lower half). */
typedef atomic_uint_fast64_t ticket;
#define IDLE ((int64_t)1 << 31)
#define CLOSED ((int64_t)1 << 30)

typedef struct worker {
    slm_pool *pool;
    int number; /* 1..: 0 is the caller */
    slm_thread thread;
    _Alignas(64) ticket taken; /* of its share of the pieces: serial number of a stage (upper half), and how many */
} worker;

struct slm_pool {
    int threads, spins;
    int64_t owner;
    /* Written between stages only. */
    const slm_job *job;
    int64_t stage, count; /* of its pieces */
    /* Apart, so that waiting for one does not slow writers of the others. */
    _Alignas(64) ticket open;
    _Alignas(64) atomic_llong unfinished; /* pieces of the stage */
    _Alignas(64) atomic_int sleepers;
    slm_mutex mutex;
    slm_condition changed;
    worker workers[SLM_MAX_THREADS];
};

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
    slm_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (serial(atomic_load(&pool->open)) == serial(seen)) slm_condition_wait(&pool->changed, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    slm_mutex_unlock(&pool->mutex);
}

/* Opens a stage of n pieces, or none (IDLE). A sleeper announces itself before its last look at the ticket, and we look for
 * sleepers after changing it: with both sequentially consistent, one of the two sees the other. */
static void open_stage(slm_pool *pool, int64_t n) {
    pool->count = n; /* published by the ticket, as is the next */
    atomic_store_explicit(&pool->unfinished, n, memory_order_relaxed);
    atomic_store(&pool->open, ((serial(atomic_load(&pool->open)) + 1) << 32) | (uint64_t)n);
    if (atomic_load(&pool->sleepers) == 0) return;
    slm_mutex_lock(&pool->mutex);
    slm_condition_wake_all(&pool->changed);
    slm_mutex_unlock(&pool->mutex);
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

/* Thread i has the pieces from pieces * i / threads on. */
static int64_t share_start(int64_t pieces, int64_t threads, int64_t i) { return pieces * i / threads; }

int64_t slm_pool_share(int64_t pieces, int64_t threads, int64_t piece) { return ((piece + 1) * threads - 1) / pieces; }

/* A piece for a thread that may do one of stage `open`: the next of its own share, so that it goes on where its last one ended and what it
 * had asked memory for ahead is what it needs; when all of that is taken, the next of another's. */
static int64_t take(slm_pool *pool, uint64_t open, int thread) {
    for (int i = thread;; i = (i + 1) % pool->threads) {
        int64_t first = share_start(pool->count, pool->threads, i), stop = share_start(pool->count, pool->threads, i + 1);
        uint64_t seen = atomic_load_explicit(&pool->workers[i].taken, memory_order_relaxed);
        for (;;) {
            int64_t piece = first + (serial(seen) == serial(open) ? (uint32_t)seen : 0);
            if (piece == stop) break;
            uint64_t taken = serial(open) << 32 | (uint64_t)(piece + 1 - first);
            if (atomic_compare_exchange_weak(&pool->workers[i].taken, &seen, taken)) return piece;
        }
    }
}

/* Does pieces of the open stage until none is left; returns the ticket then seen. */
static uint64_t help(slm_pool *pool, int thread) {
    uint64_t open = atomic_load_explicit(&pool->open, memory_order_acquire);
    while ((uint32_t)open && !(open & IDLE)) {
        if (!atomic_compare_exchange_weak(&pool->open, &open, open - 1)) continue;
        pool->job->work(pool->job->context, pool->stage, take(pool, open, thread), thread);
        if (atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_acq_rel) == 1) advance(pool, thread);
        if (thread == 0) pool->job->between(pool->job->context);
        open = atomic_load_explicit(&pool->open, memory_order_acquire);
    }
    return open;
}

static void serve(void *argument) {
    const worker *self = argument;
    for (uint64_t seen; !((seen = help(self->pool, self->number)) & CLOSED);) await_stage(self->pool, seen);
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

static int start_worker(slm_pool *pool, int number) {
    worker *self = pool->workers + number;
    *self = (worker){.pool = pool, .number = number, .thread = {.run = serve, .argument = self}};
    return slm_thread_start(&self->thread);
}

enum slm_status slm_pool_open(int threads, slm_pool **out) {
    slm_pool *pool = slm_alloc_aligned(sizeof *pool);
    if (!pool) return SLM_NO_MEMORY;
    *pool = (slm_pool){.threads = threads, .owner = slm_process(), .open = IDLE};
    pool->spins = threads <= slm_processors() ? SPINS : 0; /* where threads share a core, spinning steals it */
    slm_mutex_open(&pool->mutex);
    slm_condition_open(&pool->changed);
    int started = 1;
    while (started < threads && start_worker(pool, started)) started++;
    *out = pool;
    if (started == threads) return SLM_OK;
    pool->threads = started;
    slm_pool_close(pool);
    *out = NULL;
    return SLM_NO_THREADS;
}

void slm_pool_close(slm_pool *pool) {
    if (!pool) return;
    if (pool->owner == slm_process()) {
        open_stage(pool, IDLE | CLOSED);
        for (int i = 1; i < pool->threads; i++) slm_thread_join(&pool->workers[i].thread);
        slm_condition_close(&pool->changed);
        slm_mutex_close(&pool->mutex);
    }
    slm_free_aligned(pool);
}
