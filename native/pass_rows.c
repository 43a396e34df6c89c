/* Operations on single rows. */
#include <math.h>

#include "pass.h"

/* As transformers: the angle is the float32 product of float32 position and float32 frequency. */
void slm_pass_angles(slm_pass *pass, int64_t i0, int64_t i1) {
    const slm_program *p = &pass->runner->program;
    for (int64_t i = i0; i < i1; i++)
        for (int64_t r = 0; r < p->n_ropes; r++) {
            const slm_rope *rope = p->ropes + r;
            float *cosine = slm_angles(pass, rope, i), *sine = cosine + rope->half;
            for (int64_t j = 0; j < rope->half; j++) {
                float angle = (float)slm_token_at(pass, i)->position * rope->inv_freq[j];
                cosine[j] = cosf(angle) * rope->scale;
                sine[j] = sinf(angle) * rope->scale;
            }
        }
}

void slm_pass_embed(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    const slm_matrix *w = &pass->runner->program.weights[op->weight[0]].matrix;
    slm_embed_fn *embed = pass->runner->kernels->embed[w->format];
    for (int64_t i = i0; i < i1; i++) embed(w, slm_token_at(pass, i)->id, op->scale, slm_row(pass, op->out[0], i));
}

void slm_pass_norm(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    const slm_program *p = &pass->runner->program;
    const float *weight = p->vectors[op->weight[0]].data;
    int64_t n = p->vectors[op->weight[0]].n;
    for (int64_t i = i0; i < i1; i++) {
        const float *x = slm_row(pass, op->in[0], i);
        float *out = slm_row(pass, op->out[0], i);
        for (int64_t g = 0; g < op->groups; g++)
            pass->runner->kernels->norm(x + g * n, weight, op->eps, n, out + g * n, op->accumulate);
    }
}

void slm_pass_act_mul(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    int64_t n = pass->runner->program.values[op->in[0]].width;
    for (int64_t i = i0; i < i1; i++)
        pass->runner->kernels->act_mul(slm_row(pass, op->in[0], i), slm_row(pass, op->in[1], i), n, op->act);
}

void slm_pass_pack(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    slm_runner *r = pass->runner;
    const slm_matrix *w = &r->program.weights[op->weight[0]].matrix;
    size_t bytes = slm_act_row_bytes(w->format, w->k, w->group);
    for (int64_t i = i0; i < i1; i++)
        r->kernels->pack[w->format](slm_row(pass, op->in[0], i), w->k, w->group, r->packed + (size_t)i * bytes);
}

static void rotate_heads(slm_pass *pass, const slm_rope *rope, int64_t i, float *heads, int64_t n, int64_t head_dim) {
    const float *cosine = slm_angles(pass, rope, i);
    for (int64_t h = 0; h < n; h++) pass->runner->kernels->rope(heads + h * head_dim, cosine, cosine + rope->half, rope->half);
}

/* What queries at a position are multiplied by, besides the attention scale. */
static float temperature(const slm_rope *rope, int64_t position) {
    if (!rope->q_period) return 1.0f;
    return 1.0f + rope->q_beta * log1pf(floorf((float)position / (float)rope->q_period));
}

void slm_pass_kv_store(slm_pass *pass, const slm_op *op, int64_t i0, int64_t i1) {
    const slm_program *p = &pass->runner->program;
    const slm_layer *a = p->layers + op->layer;
    const slm_rope *rope = a->rope == SLM_NONE ? NULL : p->ropes + a->rope;
    slm_kv_store_fn *store = pass->runner->kernels->kv_store[p->kv_format];
    for (int64_t i = i0; i < i1; i++) {
        int64_t position = slm_token_at(pass, i)->position;
        const slm_cache *cache = slm_token_at(pass, i)->kv->caches + op->layer;
        float *q = slm_row(pass, op->in[0], i), *k = slm_row(pass, op->in[1], i);
        const float *v = slm_row(pass, op->in[2], i);
        if (rope) rotate_heads(pass, rope, i, q, a->n_heads, a->head_dim);
        if (rope) rotate_heads(pass, rope, i, k, a->n_kv_heads, a->head_dim);
        float scale = rope ? a->scale * temperature(rope, position) : a->scale;
        for (int64_t j = 0; j < a->n_heads * a->head_dim; j++) q[j] *= scale;
        for (int64_t h = 0; h < a->n_kv_heads; h++) {
            slm_kv_view rows = slm_kv_at(cache, h, position);
            store(k + h * a->head_dim, v + h * a->head_dim, a->head_dim, &rows, position % SLM_KV_BLOCK);
        }
    }
}
