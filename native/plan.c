#include "plan.h"

#include <stdlib.h>

/* Steps during which a value is needed; first is SLM_NONE before it is written. A step is a wide operation and the operations on
 * rows before it: these run without a barrier between them, so no two of their values may share memory. */
typedef struct lifetime {
    int64_t first, last;
} lifetime;

static int reads(const slm_op *op, int32_t values[SLM_SEGMENTS + 3]) {
    int n = 0, inputs = op->kind == SLM_KV_STORE ? 3 : op->kind == SLM_ACT_MUL ? 2 : op->kind == SLM_EMBED ? 0 : 1;
    for (int i = 0; i < inputs; i++) values[n++] = op->in[i];
    int outputs = op->kind == SLM_LINEAR ? op->segments : 1;
    for (int s = 0; op->accumulate && s < outputs; s++) values[n++] = op->out[s];
    return n;
}

static int writes(const slm_op *op, int32_t values[SLM_SEGMENTS]) {
    if (op->kind == SLM_KV_STORE || op->kind == SLM_ACT_MUL || op->out[0] == SLM_LOGITS) return 0;
    int n = op->kind == SLM_LINEAR ? op->segments : 1;
    for (int s = 0; s < n; s++) values[s] = op->out[s];
    return n;
}

static enum slm_status find_lifetimes(const slm_program *p, lifetime *life, int64_t *where) {
    int32_t values[SLM_SEGMENTS + 3];
    int64_t step = 0;
    for (int64_t v = 0; v < p->n_values; v++) life[v] = (lifetime){SLM_NONE, SLM_NONE};
    for (*where = 0; *where < p->n_ops; ++*where) {
        int n = reads(p->ops + *where, values);
        for (int i = 0; i < n; i++) {
            if (life[values[i]].first == SLM_NONE) return SLM_BAD_OP;
            life[values[i]].last = step;
        }
        n = writes(p->ops + *where, values);
        for (int i = 0; i < n; i++) {
            if (life[values[i]].first == SLM_NONE) life[values[i]].first = step;
            life[values[i]].last = step;
        }
        step += slm_op_is_wide(p->ops + *where);
    }
    return SLM_OK;
}

static int overlap(lifetime a, lifetime b) { return a.first <= b.last && b.first <= a.last; }

/* First fit in order of definition: a value takes the lowest place that no value alive with it, placed before, covers. */
static void place(slm_program *p, const lifetime *life, int64_t v) {
    int64_t size = p->values[v].stride * SLM_CHUNK, at = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int64_t o = 0; o < v; o++) {
            int64_t start = p->values[o].offset, stop = start + p->values[o].stride * SLM_CHUNK;
            if (life[o].first == SLM_NONE || !overlap(life[v], life[o]) || at >= stop || at + size <= start) continue;
            at = stop;
            moved = 1;
        }
    }
    p->values[v].offset = at;
    if (at + size > p->arena_floats) p->arena_floats = at + size;
}

static void plan_scratch(slm_program *p) {
    for (int64_t i = 0; i < p->n_ropes; i++) {
        p->ropes[i].offset = p->angle_floats;
        p->angle_floats += 2 * p->ropes[i].half;
    }
    for (int64_t i = 0; i < p->n_weights; i++) {
        const slm_matrix *w = &p->weights[i].matrix;
        size_t row = slm_act_row_bytes(w->format, w->k, w->group), scratch = slm_linear_scratch(w);
        if (w->group && row > p->packed_row_bytes) p->packed_row_bytes = row;
        if (scratch > p->scratch_bytes) p->scratch_bytes = scratch;
    }
}

enum slm_status slm_program_plan(slm_program *p, int64_t *where) {
    lifetime *life = calloc((size_t)p->n_values + 1, sizeof *life);
    if (!life) return SLM_NO_MEMORY;
    p->arena_floats = p->angle_floats = 0;
    p->packed_row_bytes = p->scratch_bytes = 0;
    enum slm_status status = find_lifetimes(p, life, where);
    for (int64_t v = 0; status == SLM_OK && v < p->n_values; v++) {
        p->values[v].stride = slm_round_up(p->values[v].width, 16); /* rows begin at multiples of 64 bytes */
        if (life[v].first != SLM_NONE) place(p, life, v);
    }
    free(life);
    if (status == SLM_OK) plan_scratch(p);
    return status;
}
