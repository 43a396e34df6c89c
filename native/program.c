#include "program.h"

#include <math.h>
#include <stdlib.h>

#include "plan.h"

#define MAX_COUNT (1 << 20)

static int within(int64_t i, int64_t count) { return i >= 0 && i < count; }

static int is_positive(float x) { return isfinite(x) && x > 0; }

enum slm_status slm_program_alloc(slm_program *p) {
    const int64_t counts[] = {p->n_values, p->n_weights, p->n_vectors, p->n_ropes, p->n_layers, p->n_ops};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!within(counts[i], MAX_COUNT)) return SLM_NO_MEMORY;
    p->values = calloc((size_t)p->n_values + 1, sizeof *p->values);
    p->weights = calloc((size_t)p->n_weights + 1, sizeof *p->weights);
    p->vectors = calloc((size_t)p->n_vectors + 1, sizeof *p->vectors);
    p->ropes = calloc((size_t)p->n_ropes + 1, sizeof *p->ropes);
    p->layers = calloc((size_t)p->n_layers + 1, sizeof *p->layers);
    p->ops = calloc((size_t)p->n_ops + 1, sizeof *p->ops);
    if (p->values && p->weights && p->vectors && p->ropes && p->layers && p->ops) return SLM_OK;
    slm_program_free(p);
    return SLM_NO_MEMORY;
}

void slm_program_free(slm_program *p) {
    free(p->values);
    free(p->weights);
    free(p->vectors);
    free(p->ropes);
    free(p->layers);
    free(p->ops);
    *p = (slm_program){0};
}

static int weight_ok(const slm_weight *weight) {
    const slm_matrix *w = &weight->matrix;
    if (!within(w->format, SLM_FORMAT_COUNT) || w->n < 1 || w->k < 1 || w->n > INT32_MAX || w->k > SLM_MAX_WIDTH) return 0;
    int grouped = w->format == SLM_Q8 || w->format == SLM_Q4;
    if (grouped ? w->group != 32 && w->group != 64 && w->group != 128 : w->group != 0) return 0;
    if (!w->data || (uintptr_t)w->data % 16 || (uintptr_t)w->scales % 16 || !is_positive(w->scale)) return 0;
    uint64_t n = (uint64_t)w->n, k = (uint64_t)w->k; /* n k < 2^51: no product below overflows */
    if (!grouped) return weight->data_bytes >= n * k * (w->format == SLM_F32 ? 4 : 2);
    uint64_t groups = (uint64_t)slm_groups(w->k, w->group);
    uint64_t row_bytes = groups * (uint64_t)w->group / (w->format == SLM_Q8 ? 1 : 2);
    return w->scales && weight->data_bytes >= n * row_bytes && weight->scales_bytes >= n * groups * sizeof *w->scales;
}

static int layer_ok(const slm_program *p, const slm_layer *a) {
    if (a->n_kv_heads < 1 || a->n_heads < a->n_kv_heads || a->n_heads % a->n_kv_heads) return 0;
    if (a->head_dim < 1 || a->head_dim > SLM_MAX_WIDTH || a->n_heads > SLM_MAX_WIDTH / a->head_dim) return 0;
    if (a->rope != SLM_NONE && (!within(a->rope, p->n_ropes) || 2 * p->ropes[a->rope].half > a->head_dim)) return 0;
    return a->window >= 0 && a->window <= p->context && is_positive(a->scale) && isfinite(a->softcap) && a->softcap >= 0;
}

static int rope_ok(const slm_rope *r) {
    return r->inv_freq && r->half > 0 && r->half <= SLM_MAX_WIDTH && is_positive(r->scale) && isfinite(r->q_beta) &&
           r->q_period >= 0;
}

static enum slm_status check_tables(const slm_program *p, int64_t *where) {
    if (p->vocab < 1 || p->context < 1 || p->context > INT32_MAX) return SLM_BAD_VALUE;
    if (p->kv_format != SLM_F32 && p->kv_format != SLM_F16 && p->kv_format != SLM_Q8) return SLM_BAD_VALUE;
    for (*where = 0; *where < p->n_values; ++*where)
        if (p->values[*where].width < 1 || p->values[*where].width > SLM_MAX_WIDTH) return SLM_BAD_VALUE;
    for (*where = 0; *where < p->n_weights; ++*where)
        if (!weight_ok(p->weights + *where)) return SLM_BAD_WEIGHT;
    for (*where = 0; *where < p->n_vectors; ++*where)
        if (!p->vectors[*where].data || p->vectors[*where].n < 1 || (uintptr_t)p->vectors[*where].data % 4) return SLM_BAD_WEIGHT;
    for (*where = 0; *where < p->n_ropes; ++*where)
        if (!rope_ok(p->ropes + *where)) return SLM_BAD_LAYER;
    for (*where = 0; *where < p->n_layers; ++*where)
        if (!layer_ok(p, p->layers + *where)) return SLM_BAD_LAYER;
    return SLM_OK;
}

/* Width of a value, or 0 where the index is out of range: no weight has width 0, so comparisons fail. */
static int64_t width(const slm_program *p, int32_t value) { return within(value, p->n_values) ? p->values[value].width : 0; }

static const slm_matrix *matrix(const slm_program *p, int32_t i) {
    return within(i, p->n_weights) ? &p->weights[i].matrix : NULL;
}

static int vector_has(const slm_program *p, int32_t i, int64_t n) { return within(i, p->n_vectors) && p->vectors[i].n == n; }

static int embed_ok(const slm_program *p, const slm_op *op) {
    const slm_matrix *w = matrix(p, op->weight[0]);
    return w && w->n == p->vocab && w->k == width(p, op->out[0]) && is_positive(op->scale);
}

static int norm_ok(const slm_program *p, const slm_op *op) {
    int64_t n = width(p, op->in[0]);
    return n && n == width(p, op->out[0]) && op->groups > 0 && n % op->groups == 0 &&
           vector_has(p, op->weight[0], n / op->groups) && isfinite(op->eps) && op->eps >= 0;
}

static int linear_ok(const slm_program *p, const slm_op *op, int is_last) {
    if (op->segments < 1 || op->segments > SLM_SEGMENTS || !(isfinite(op->softcap) && op->softcap >= 0)) return 0;
    const slm_matrix *first = matrix(p, op->weight[0]);
    if (is_last && (op->segments != 1 || op->out[0] != SLM_LOGITS || op->accumulate)) return 0;
    for (int s = 0; s < op->segments; s++) {
        const slm_matrix *w = matrix(p, op->weight[s]);
        if (!w || w->k != width(p, op->in[0]) || w->n != (is_last ? p->vocab : width(p, op->out[s]))) return 0;
        if (w->format != first->format || w->group != first->group) return 0; /* the input is packed once for all */
        if (op->bias[s] != SLM_NONE && !vector_has(p, op->bias[s], w->n)) return 0;
    }
    return 1;
}

static int kv_store_ok(const slm_program *p, const slm_op *op) {
    if (!within(op->layer, p->n_layers)) return 0;
    const slm_layer *a = p->layers + op->layer;
    return width(p, op->in[0]) == a->n_heads * a->head_dim && width(p, op->in[1]) == a->n_kv_heads * a->head_dim &&
           width(p, op->in[2]) == a->n_kv_heads * a->head_dim;
}

static int attend_ok(const slm_program *p, const slm_op *op) {
    if (!within(op->layer, p->n_layers)) return 0;
    int64_t n = p->layers[op->layer].n_heads * p->layers[op->layer].head_dim;
    return width(p, op->in[0]) == n && width(p, op->out[0]) == n;
}

static int op_ok(const slm_program *p, int64_t i) {
    const slm_op *op = p->ops + i;
    int is_last = i == p->n_ops - 1;
    if (is_last && op->kind != SLM_LINEAR) return 0;
    switch (op->kind) {
        case SLM_EMBED: return embed_ok(p, op);
        case SLM_NORM: return norm_ok(p, op);
        case SLM_LINEAR: return linear_ok(p, op, is_last);
        case SLM_KV_STORE: return kv_store_ok(p, op);
        case SLM_ATTEND: return attend_ok(p, op);
        case SLM_ACT_MUL:
            return width(p, op->in[0]) && width(p, op->in[0]) == width(p, op->in[1]) && within(op->act, SLM_ACT_COUNT);
        case SLM_SELECT: return width(p, op->in[0]) && width(p, op->in[0]) == width(p, op->out[0]);
        default: return 0;
    }
}

/* Each layer's cache is filled by exactly one KV_STORE, before it is read; SELECTs stand together, the last LINEAR behind them. */
static enum slm_status check_order(const slm_program *p, int64_t *where) {
    int64_t stored = 0, selected = 0;
    for (*where = 0; *where < p->n_ops; ++*where) {
        const slm_op *op = p->ops + *where;
        if (op->kind == SLM_KV_STORE && (selected || op->layer != stored++)) return SLM_BAD_OP;
        if (op->kind == SLM_ATTEND && (selected || op->layer >= stored)) return SLM_BAD_OP;
        if (op->kind == SLM_EMBED && selected) return SLM_BAD_OP;
        if (op->kind == SLM_SELECT && selected++ && op[-1].kind != SLM_SELECT) return SLM_BAD_OP;
    }
    return selected && stored == p->n_layers ? SLM_OK : SLM_BAD_OP;
}

enum slm_status slm_program_check(slm_program *p, int64_t *where) {
    enum slm_status status = check_tables(p, where);
    if (status) return status;
    for (*where = 0; *where < p->n_ops; ++*where)
        if (!op_ok(p, *where)) return SLM_BAD_OP;
    status = check_order(p, where);
    return status ? status : slm_program_plan(p, where);
}
