#include "run.h"

#include <stdlib.h>
#include <string.h>

#include "pass.h"
#include "session.h"
#include "system.h"

#define PIECE_VALUES 2048 /* of row operations: about a microsecond of work, some times what handing it out costs */

static void *rows_alloc(slm_runner *r, size_t n, size_t row_bytes) {
    size_t bytes = (n * row_bytes + 127) / 64 * 64; /* never 0 */
    r->bytes += bytes;
    return slm_alloc_aligned(bytes);
}

enum slm_status slm_runner_open(slm_runner *r, slm_program *program, const slm_kernels *kernels, int threads) {
    slm_attend_sizes attend = slm_attend_sizes_of(program);
    size_t scratch = program->scratch_bytes > attend.scratch_bytes ? program->scratch_bytes : attend.scratch_bytes;
    *r = (slm_runner){.program = *program, .kernels = kernels, .threads = threads, .scratch_stride = (scratch + 127) / 64 * 64};
    r->tokens = rows_alloc(r, SLM_CHUNK, sizeof *r->tokens);
    r->wanted = rows_alloc(r, SLM_CHUNK, sizeof *r->wanted);
    r->tiles = rows_alloc(r, SLM_CHUNK + 1, sizeof *r->tiles);
    r->arena = rows_alloc(r, (size_t)program->arena_floats, sizeof *r->arena);
    r->angles = rows_alloc(r, SLM_CHUNK, (size_t)program->angle_floats * sizeof *r->angles);
    r->packed = rows_alloc(r, SLM_CHUNK, program->packed_row_bytes);
    r->scratch = rows_alloc(r, (size_t)threads, r->scratch_stride);
    r->partials = rows_alloc(r, (size_t)attend.partial_floats, sizeof *r->partials);
    r->unfinished = calloc((size_t)attend.kv_heads + 1, sizeof *r->unfinished);
    r->wide = calloc((size_t)program->n_ops, sizeof *r->wide);
    int allocated = r->tokens && r->wanted && r->tiles && r->arena && r->angles && r->packed && r->scratch && r->partials &&
                    r->unfinished && r->wide;
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
    slm_free_aligned(r->tokens);
    slm_free_aligned(r->wanted);
    slm_free_aligned(r->tiles);
    slm_free_aligned(r->arena);
    slm_free_aligned(r->angles);
    slm_free_aligned(r->packed);
    slm_free_aligned(r->scratch);
    slm_free_aligned(r->partials);
    free(r->unfinished);
    free(r->wide);
    slm_program_free(&r->program);
    *r = (slm_runner){0};
}

/* The operations on rows before wide operation i of the program, and the packing of its input. */
static int64_t first_row_op(const slm_runner *r, int64_t i) { return i ? r->wide[i - 1] + 1 : 0; }

static int is_packed(const slm_runner *r, const slm_op *op) {
    return op->kind == SLM_LINEAR && r->kernels->pack[r->program.weights[op->weight[0]].matrix.format];
}

/* Values of one row that these operations go through. */
static int64_t values_per_row(const slm_runner *r, int64_t i) {
    const slm_program *p = &r->program;
    int64_t n = is_packed(r, p->ops + r->wide[i]) ? p->values[p->ops[r->wide[i]].in[0]].width : 0;
    for (const slm_op *op = p->ops + first_row_op(r, i); op < p->ops + r->wide[i]; op++)
        n += p->values[op->kind == SLM_ACT_MUL || op->kind == SLM_KV_STORE ? op->in[0] : op->out[0]].width;
    return n;
}

/* Rows of one piece of these operations, 0 where there are none: several pieces a thread, so that threads of unequal speed end
 * together, none too small to be worth handing out. */
static int64_t rows_per_piece(const slm_pass *pass, int64_t i) {
    int64_t even = 1 + (pass->live_rows - 1) / (pass->runner->threads * 4LL), values = values_per_row(pass->runner, i);
    int64_t worth = values ? 1 + (PIECE_VALUES - 1) / values : 0;
    return worth && worth < even ? even : worth;
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
    int64_t size = rows_per_piece(pass, i), i0 = piece * size, i1 = i0 + size < pass->live_rows ? i0 + size : pass->live_rows;
    if (i == 0) slm_pass_angles(pass, i0, i1);
    for (int64_t op = first_row_op(r, i); op < r->wide[i]; op++) run_row_op(pass, r->program.ops + op, i0, i1);
    if (is_packed(r, r->program.ops + r->wide[i])) slm_pass_pack(pass, r->program.ops + r->wide[i], i0, i1);
}

/* Moves the rows wanted to the front; from here on they are all there is. */
static void run_select(slm_pass *pass, const slm_op *op) {
    size_t bytes = (size_t)pass->runner->program.values[op->in[0]].width * sizeof(float);
    for (int64_t i = 0; i < pass->wanted; i++)
        memcpy(slm_row(pass, op->out[0], i), slm_row(pass, op->in[0], pass->runner->wanted[i]), bytes);
    pass->live_rows = pass->wanted;
}

static int64_t wide_pieces(slm_pass *pass, const slm_op *op) {
    if (op->kind == SLM_LINEAR) return slm_pass_linear_pieces(pass, op);
    if (op->kind == SLM_ATTEND) return slm_pass_attend_pieces(pass, op);
    return 1;
}

int slm_any_cancelled(const slm_segment *segments, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (atomic_load_explicit(&segments[i].session->cancelled, memory_order_relaxed)) return 1;
    return 0;
}

static int is_stopped(slm_pass *pass) {
    return atomic_load_explicit(&pass->stopped, memory_order_relaxed) || slm_any_cancelled(pass->segments, pass->count);
}

static void between(void *context) {
    slm_pass *pass = context;
    if (slm_watch_stops(pass->watch)) atomic_store(&pass->stopped, 1);
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
    int64_t size = rows_per_piece(pass, i);
    return size ? (pass->live_rows + size - 1) / size : 0;
}

static void work(void *context, int64_t stage, int64_t piece, int thread) {
    slm_pass *pass = context;
    const slm_op *op = pass->runner->program.ops + pass->runner->wide[stage / 2];
    if (stage % 2 == 0) run_rows(pass, stage / 2, piece);
    else if (op->kind == SLM_LINEAR) slm_pass_linear(pass, op, piece, slm_scratch(pass, thread));
    else if (op->kind == SLM_ATTEND) slm_pass_attend(pass, op, piece, slm_scratch(pass, thread));
    else run_select(pass, op);
}

static enum slm_status check(const slm_runner *r, const slm_segment *segment) {
    const slm_kv *kv = &segment->session->kv;
    for (int64_t i = 0; i < segment->n; i++)
        if (segment->ids[i] < 0 || segment->ids[i] >= r->program.vocab) return SLM_BAD_ID;
    if (segment->n < 1 || segment->n > r->program.context - kv->length) return SLM_FULL;
    return slm_kv_holds(kv, kv->length) ? SLM_OK : SLM_FORGOTTEN; /* a cancelled run may have overwritten a ring */
}

/* Nothing is allocated before all segments are known to be sound. */
static enum slm_status prepare(const slm_runner *r, const slm_segment *segments, int64_t count) {
    enum slm_status status = SLM_OK;
    for (int64_t i = 0; !status && i < count; i++) status = check(r, segments + i);
    for (int64_t i = 0; !status && i < count; i++) status = slm_kv_reserve(&segments[i].session->kv, segments[i].n);
    return status;
}

static void add_row(slm_pass *pass, const slm_segment *segment, int64_t i) {
    slm_kv *kv = &segment->session->kv;
    int64_t position = kv->length + i;
    pass->runner->tokens[pass->rows] = (slm_token){kv, position, segment->ids[i]};
    if (segment->all_rows || i == segment->n - 1) pass->runner->wanted[pass->wanted++] = (int32_t)pass->rows;
    if (kv->high <= position) kv->high = position + 1;
    pass->rows++;
}

/* Takes the next rows of the run; are there any? */
static int next_rows(slm_pass *pass) {
    pass->logits += pass->wanted * pass->runner->program.vocab;
    pass->rows = pass->wanted = 0;
    while (pass->segment < pass->count && pass->rows < SLM_CHUNK) {
        const slm_segment *segment = pass->segments + pass->segment;
        add_row(pass, segment, pass->done++);
        if (pass->done == segment->n) pass->segment++, pass->done = 0;
    }
    pass->live_rows = pass->rows;
    return pass->rows > 0;
}

enum slm_status slm_runner_run(slm_runner *r, const slm_segment *segments, int64_t count, float *logits, slm_watch *watch) {
    enum slm_status status = prepare(r, segments, count);
    if (status) return status;
    slm_pass pass = {.runner = r, .segments = segments, .count = count, .logits = logits, .watch = watch};
    slm_job job = {&pass, pieces, work, between};
    while (next_rows(&pass)) {
        slm_pool_run(r->pool, &job);
        if (!pass.finished) return SLM_CANCELLED;
    }
    for (int64_t i = 0; i < count; i++) segments[i].session->kv.length += segments[i].n;
    return SLM_OK;
}
