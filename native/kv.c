#include "kv.h"

#include <stdlib.h>

enum slm_status slm_kv_init(slm_kv *kv, const slm_program *p) {
    *kv = (slm_kv){.n_caches = p->n_layers, .caches = calloc((size_t)p->n_layers + 1, sizeof *kv->caches)};
    if (!kv->caches) return SLM_NO_MEMORY;
    for (int64_t i = 0; i < p->n_layers; i++) {
        const slm_layer *a = p->layers + i;
        int64_t rows = p->context;
        if (a->window && a->window - 1 + SLM_CHUNK < rows) rows = a->window - 1 + SLM_CHUNK;
        int64_t capacity = slm_round_up(rows, SLM_KV_BLOCK);
        float **blocks = calloc((size_t)(capacity / SLM_KV_BLOCK), sizeof *blocks);
        kv->caches[i] = (slm_cache){a->n_kv_heads, a->head_dim, a->window, capacity, blocks};
        if (!blocks) {
            slm_kv_free(kv);
            return SLM_NO_MEMORY;
        }
    }
    return SLM_OK;
}

void slm_kv_free(slm_kv *kv) {
    for (int64_t i = 0; kv->caches && i < kv->n_caches; i++) {
        slm_cache *c = kv->caches + i;
        for (int64_t b = 0; c->blocks && b < c->capacity / SLM_KV_BLOCK; b++) free(c->blocks[b]);
        free(c->blocks);
    }
    free(kv->caches);
    *kv = (slm_kv){0};
}

static enum slm_status reserve(slm_cache *c, int64_t start, int64_t stop) {
    size_t floats = (size_t)c->n_kv_heads * (size_t)c->head_dim * SLM_KV_BLOCK * 2;
    if (stop - start > c->capacity) start = stop - c->capacity;
    for (int64_t position = start; position < stop; position = (position / SLM_KV_BLOCK + 1) * SLM_KV_BLOCK) {
        float **block = c->blocks + position % c->capacity / SLM_KV_BLOCK;
        if (!*block) *block = malloc(floats * sizeof **block);
        if (!*block) return SLM_NO_MEMORY;
    }
    return SLM_OK;
}

enum slm_status slm_kv_reserve(slm_kv *kv, int64_t n) {
    for (int64_t i = 0; i < kv->n_caches; i++) {
        enum slm_status status = reserve(kv->caches + i, kv->length, kv->length + n);
        if (status) return status;
    }
    return SLM_OK;
}

int slm_kv_holds(const slm_kv *kv, int64_t length) {
    if (length == 0) return 1;
    for (int64_t i = 0; i < kv->n_caches; i++) {
        const slm_cache *c = kv->caches + i;
        int64_t oldest = c->window ? length - c->window + 1 : 0; /* that the next token sees */
        if (kv->high - c->capacity > (oldest > 0 ? oldest : 0)) return 0;
    }
    return 1;
}

enum slm_status slm_kv_truncate(slm_kv *kv, int64_t length) {
    if (!slm_kv_holds(kv, length)) return SLM_FORGOTTEN;
    kv->length = length;
    if (length == 0) kv->high = 0;
    return SLM_OK;
}

slm_kv_run slm_kv_at(const slm_cache *c, int64_t head, int64_t position) {
    int64_t slot = position % c->capacity, row = slot % SLM_KV_BLOCK;
    int64_t head_floats = SLM_KV_BLOCK * c->head_dim;
    float *keys = c->blocks[slot / SLM_KV_BLOCK] + head * head_floats + row * c->head_dim;
    return (slm_kv_run){keys, keys + c->n_kv_heads * head_floats, SLM_KV_BLOCK - row};
}
