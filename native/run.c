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
    r->wide = calloc((size_t)program->n_ops, sizeof *r->wide);
    int allocated = r->arena && r->angles && r->packed && r->scratch && r->wide;
    for (int64_t i = 0; allocated && i < program->n_ops; i++)
        if (slm_op_is_wide(program->ops + i)) r->wide[r->n_wide++] = i;
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
    free(r->wide);
    slm_program_free(&r->program);
    *r = (slm_runner){0};
}

/* Rows of one piece of work: several pieces a thread, so that threads of unequal speed end together. */
static int64_t rows_per_piece(const slm_pass *pass) { return 1 + (pass->live_rows - 1) / (pass->runner->threads * 4LL); }

/* The operations on rows before wide operation i of the program, and the packing of its input. */
static int64_t first_row_op(const slm_runner *r, int64_t i) { return i ? r->wide[i - 1] + 1 : 0; }

static int is_packed(const slm_runner *r, const slm_op *op) {
    return op->kind == SLM_LINEAR && r->kernels->pack[r->program.weights[op->weight[0]].matrix.format];
}

static void run_row_op(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    switch (op->kind) {
        case SLM_EMBED: slm_pass_embed(pass, op, i0, i1); break;
        case SLM_NORM: slm_pass_norm(pass, op, i0, i1); break;
        case SLM_ACT_MUL: slm_pass_act_mul(pass, op, i0, i1); break;
        default: slm_pass_kv_store(pass, op, i0, i1);
    }
}

static void run_rows(slm_pass *pass, int64_t i, int64_t piece) {
    const slm_runner *r = pass->runner;
    int64_t size = rows_per_piece(pass), i0 = piece * size, i1 = i0 + size < pass->live_rows ? i0 + size : pass->live_rows;
    if (i == 0) slm_pass_angles(pass, i0, i1);
    for (int64_t op = first_row_op(r, i); op < r->wide[i]; op++) run_row_op(pass, r->program.ops + op, i0, i1);
    if (is_packed(r, r->program.ops + r->wide[i])) slm_pass_pack(pass, r->program.ops + r->wide[i], i0, i1);
}

/* Moves the rows wanted to the front; from here on they are all there is. */
static void run_select(slm_pass *pass, const slm_op *op) {
    size_t bytes = (size_t)pass->runner->program.values[op->in[0]].width * sizeof(float);
    for (int64_t i = 0; i < pass->wanted; i++)
        memcpy(slm_row(pass, op->out[0], i), slm_row(pass, op->in[0], pass->rows - pass->wanted + i), bytes);
    pass->live_rows = pass->wanted;
}

static int64_t wide_pieces(slm_pass *pass, const slm_op *op) {
    if (op->kind == SLM_LINEAR) return slm_pass_linear_pieces(pass, op);
    if (op->kind == SLM_ATTEND) return slm_pass_attend_pieces(pass, op);
    return 1;
}

static int is_stopped(slm_pass *pass) {
    return atomic_load_explicit(pass->stop.cancelled, memory_order_relaxed) ||
           atomic_load_explicit(&pass->stopped, memory_order_relaxed);
}

static void between(void *context) {
    slm_pass *pass = context;
    if (slm_watch_stops(pass->stop.watch)) atomic_store(&pass->stopped, 1);
}

/* Stage 2 i: the operations on rows before wide operation i; stage 2 i + 1: that operation. */
static int64_t pieces(void *context, int64_t stage) {
    slm_pass *pass = context;
    const slm_runner *r = pass->runner;
    int64_t i = stage / 2;
    const slm_op *op = r->program.ops + r->wide[i < r->n_wide ? i : 0];
    pass->finished = i == r->n_wide || (op->kind == SLM_SELECT && !pass->wanted);
    if (pass->finished) return SLM_END;
    if (is_stopped(pass)) return SLM_END;
    if (stage % 2) return wide_pieces(pass, op);
    if (first_row_op(r, i) == r->wide[i] && !is_packed(r, op)) return 0;
    return (pass->live_rows + rows_per_piece(pass) - 1) / rows_per_piece(pass);
}

static void work(void *context, int64_t stage, int64_t piece, int thread) {
    slm_pass *pass = context;
    const slm_op *op = pass->runner->program.ops + pass->runner->wide[stage / 2];
    if (stage % 2 == 0) run_rows(pass, stage / 2, piece);
    else if (op->kind == SLM_LINEAR) slm_pass_linear(pass, op, piece, slm_scratch(pass, thread));
    else if (op->kind == SLM_ATTEND) slm_pass_attend(pass, op, piece, slm_scratch(pass, thread));
    else run_select(pass, op);
}

static enum slm_status prepare(const slm_runner *r, slm_kv *kv, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= r->program.vocab) return SLM_BAD_ID;
    if (n < 1 || n > r->program.context - kv->length) return SLM_FULL;
    if (!slm_kv_holds(kv, kv->length)) return SLM_FORGOTTEN; /* a cancelled run may have overwritten a ring */
    return slm_kv_reserve(kv, n);
}

enum slm_status slm_runner_run(slm_runner *r, slm_kv *kv, const int32_t *ids, int64_t n, int all_rows, float *logits,
                               slm_stop stop) {
    enum slm_status status = prepare(r, kv, ids, n);
    if (status) return status;
    slm_pass pass = {.runner = r, .kv = kv, .logits = logits, .stop = stop};
    slm_job job = {&pass, pieces, work, between};
    for (int64_t done = 0; done < n; done += pass.rows) {
        pass.ids = ids + done;
        pass.start = kv->length + done;
        pass.rows = n - done < SLM_CHUNK ? n - done : SLM_CHUNK;
        pass.wanted = all_rows ? pass.rows : done + pass.rows == n;
        if (pass.start + pass.rows > kv->high) kv->high = pass.start + pass.rows;
        pass.live_rows = pass.rows;
        slm_pool_run(r->pool, &job);
        if (!pass.finished) return SLM_CANCELLED;
        if (all_rows) pass.logits += pass.rows * r->program.vocab;
    }
    kv->length += n;
    return SLM_OK;
}
