#include "run.h"

#include <stdlib.h>
#include <string.h>

#include "pass.h"

static void *rows_alloc(size_t n, size_t row_bytes) {
    return aligned_alloc(64, (n * row_bytes + 127) / 64 * 64); /* never of size 0 */
}

enum slm_status slm_runner_open(slm_runner *r, slm_program *program, const slm_kernels *kernels, int threads) {
    size_t attend_bytes = (size_t)program->attend_floats * sizeof(float);
    size_t scratch = program->scratch_bytes > attend_bytes ? program->scratch_bytes : attend_bytes;
    *r = (slm_runner){.program = *program, .kernels = kernels, .threads = threads, .scratch_stride = (scratch + 127) / 64 * 64};
    r->arena = rows_alloc((size_t)program->arena_floats, sizeof *r->arena);
    r->angles = rows_alloc(SLM_CHUNK, (size_t)program->angle_floats * sizeof *r->angles);
    r->packed = rows_alloc(SLM_CHUNK, program->packed_row_bytes);
    r->scratch = rows_alloc((size_t)threads, r->scratch_stride);
    r->next = calloc((size_t)program->n_ops, sizeof *r->next);
    int allocated = r->arena && r->angles && r->packed && r->scratch && r->next;
    enum slm_status status = allocated ? slm_pool_open(threads, &r->pool) : SLM_NO_MEMORY;
    if (status) r->program = (slm_program){0}; /* stays the caller's */
    else *program = (slm_program){0};
    if (status) slm_runner_close(r);
    return status;
}

void slm_runner_close(slm_runner *r) {
    slm_pool_close(r->pool);
    free(r->arena);
    free(r->angles);
    free(r->packed);
    free(r->scratch);
    free(r->next);
    slm_program_free(&r->program);
    *r = (slm_runner){0};
}

/* Waits for all threads; 0 where the pass is to end here. Thread 0 decides and names the barrier, so that all stop at the same. */
static int barrier(slm_worker *w) {
    slm_pass *pass = w->pass;
    if (w->thread == 0 && atomic_load_explicit(pass->cancelled, memory_order_relaxed)) {
        long long never = INT64_MAX;
        atomic_compare_exchange_strong(&pass->stop_at, &never, w->barriers);
    }
    slm_pool_barrier(pass->runner->pool);
    return atomic_load_explicit(&pass->stop_at, memory_order_relaxed) > w->barriers++;
}

static int begin_rows(slm_worker *w) {
    int need_barrier = w->after_wide; /* else this thread made the rows it reads, and no other touches them */
    w->after_wide = 0;
    return !need_barrier || barrier(w);
}

static int begin_wide(slm_worker *w) {
    w->after_wide = 1;
    return barrier(w);
}

/* This thread's share of the rows: i0 of thread t; t + 1 gives i1. */
static int64_t first_row(const slm_worker *w, int thread) {
    int64_t threads = w->pass->runner->threads;
    return (w->rows * thread + threads - 1) / threads;
}

typedef void slm_rows_fn(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1);

static int on_rows(slm_worker *w, const slm_op *op, slm_rows_fn *work) {
    if (!begin_rows(w)) return 0;
    work(w->pass, op, first_row(w, w->thread), first_row(w, w->thread + 1));
    return 1;
}

static int run_linear(slm_worker *w, const slm_op *op) {
    const slm_runner *r = w->pass->runner;
    if (r->kernels->pack[r->program.weights[op->weight[0]].matrix.format] && !on_rows(w, op, slm_pass_pack)) return 0;
    if (!begin_wide(w)) return 0;
    slm_pass_linear(w, op);
    return 1;
}

static int run_attend(slm_worker *w, const slm_op *op) {
    if (!begin_wide(w)) return 0;
    slm_pass_attend(w, op);
    return 1;
}

/* Rows are dealt anew behind it, so it counts as wide. */
static int run_select(slm_worker *w, const slm_op *op) {
    slm_pass *pass = w->pass;
    if (!pass->wanted || !begin_wide(w)) return 0;
    size_t bytes = (size_t)pass->runner->program.values[op->in[0]].width * sizeof(float);
    for (int64_t i = 0; w->thread == 0 && i < pass->wanted; i++)
        memcpy(slm_row(pass, op->out[0], i), slm_row(pass, op->in[0], pass->rows - pass->wanted + i), bytes);
    w->rows = pass->wanted;
    return 1;
}

/* 0 where the pass ends, for every thread alike. */
static int run_op(slm_worker *w, const slm_op *op) {
    switch (op->kind) {
        case SLM_EMBED: return on_rows(w, op, slm_pass_embed);
        case SLM_NORM: return on_rows(w, op, slm_pass_norm);
        case SLM_ACT_MUL: return on_rows(w, op, slm_pass_act_mul);
        case SLM_KV_STORE: return on_rows(w, op, slm_pass_kv_store);
        case SLM_ATTEND: return run_attend(w, op);
        case SLM_SELECT: return run_select(w, op);
        default: return run_linear(w, op);
    }
}

static void run_pass(void *context, int thread) {
    slm_pass *pass = context;
    const slm_runner *r = pass->runner;
    slm_worker w = {.pass = pass, .thread = thread, .rows = pass->rows};
    w.scratch = r->scratch + (size_t)thread * r->scratch_stride;
    slm_pass_angles(pass, first_row(&w, thread), first_row(&w, thread + 1));
    for (int64_t i = 0; i < r->program.n_ops; i++)
        if (!run_op(&w, r->program.ops + i)) return;
}

static enum slm_status prepare(const slm_runner *r, slm_kv *kv, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= r->program.vocab) return SLM_BAD_ID;
    if (n < 1 || n > r->program.context - kv->length) return SLM_FULL;
    if (!slm_kv_holds(kv, kv->length)) return SLM_FORGOTTEN; /* a cancelled run may have overwritten a ring */
    return slm_kv_reserve(kv, n);
}

enum slm_status slm_runner_run(slm_runner *r, slm_kv *kv, const int32_t *ids, int64_t n, int all_rows, float *logits,
                               atomic_int *cancelled) {
    enum slm_status status = prepare(r, kv, ids, n);
    if (status) return status;
    slm_pass pass = {.runner = r, .kv = kv, .logits = logits, .cancelled = cancelled, .stop_at = INT64_MAX};
    for (int64_t done = 0; done < n; done += pass.rows) {
        pass.ids = ids + done;
        pass.start = kv->length + done;
        pass.rows = n - done < SLM_CHUNK ? n - done : SLM_CHUNK;
        pass.wanted = all_rows ? pass.rows : done + pass.rows == n;
        if (pass.start + pass.rows > kv->high) kv->high = pass.start + pass.rows;
        memset(r->next, 0, (size_t)r->program.n_ops * sizeof *r->next);
        slm_pool_run(r->pool, run_pass, &pass);
        if (atomic_load(&pass.stop_at) != INT64_MAX) return SLM_CANCELLED;
        if (all_rows) pass.logits += pass.rows * r->program.vocab;
    }
    kv->length += n;
    return SLM_OK;
}
