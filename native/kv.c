#include "kv.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct slm_kv_block {
    atomic_llong owners; /* only an owner can add one, so who finds itself alone stays alone */
    _Alignas(16) float rows[];
};

static size_t rows_bytes(const slm_cache *c) {
    return (size_t)c->n_kv_heads * (size_t)c->head_dim * SLM_KV_BLOCK * 2 * sizeof(float);
}

static void release(slm_kv_block *block) {
    if (block && atomic_fetch_sub(&block->owners, 1) == 1) free(block);
}

static slm_cache empty_cache(const slm_program *p, const slm_layer *a) {
    int64_t rows = p->context;
    if (a->window && a->window - 1 + SLM_CHUNK < rows) rows = a->window - 1 + SLM_CHUNK;
    return (slm_cache){a->n_kv_heads, a->head_dim, a->window, slm_round_up(rows, SLM_KV_BLOCK), NULL};
}

size_t slm_kv_bytes(const slm_program *p, int64_t tokens) {
    size_t bytes = 0;
    for (int64_t i = 0; i < p->n_layers; i++) {
        slm_cache c = empty_cache(p, p->layers + i);
        int64_t rows = tokens < c.capacity ? slm_round_up(tokens, SLM_KV_BLOCK) : c.capacity;
        bytes += (size_t)(rows / SLM_KV_BLOCK) * (sizeof(slm_kv_block) + rows_bytes(&c));
    }
    return bytes;
}

enum slm_status slm_kv_init(slm_kv *kv, const slm_program *p) {
    *kv = (slm_kv){.n_caches = p->n_layers, .caches = calloc((size_t)p->n_layers + 1, sizeof *kv->caches)};
    if (!kv->caches) return SLM_NO_MEMORY;
    for (int64_t i = 0; i < p->n_layers; i++) {
        slm_cache *c = kv->caches + i;
        *c = empty_cache(p, p->layers + i);
        c->blocks = calloc((size_t)(c->capacity / SLM_KV_BLOCK), sizeof *c->blocks);
        if (!c->blocks) {
            slm_kv_free(kv);
            return SLM_NO_MEMORY;
        }
    }
    return SLM_OK;
}

void slm_kv_free(slm_kv *kv) {
    for (int64_t i = 0; kv->caches && i < kv->n_caches; i++) {
        slm_cache *c = kv->caches + i;
        for (int64_t b = 0; c->blocks && b < c->capacity / SLM_KV_BLOCK; b++) release(c->blocks[b]);
        free(c->blocks);
    }
    free(kv->caches);
    *kv = (slm_kv){0};
}

void slm_kv_fork(const slm_kv *kv, slm_kv *to) {
    for (int64_t i = 0; i < kv->n_caches; i++)
        for (int64_t b = 0; b < kv->caches[i].capacity / SLM_KV_BLOCK; b++) {
            slm_kv_block *block = to->caches[i].blocks[b] = kv->caches[i].blocks[b];
            if (block) atomic_fetch_add(&block->owners, 1);
        }
    to->length = kv->length;
    to->high = kv->high;
}

/* Makes *block one that may be written to: there, and nobody else's. */
static enum slm_status own(const slm_cache *c, slm_kv_block **block) {
    slm_kv_block *old = *block;
    if (old && atomic_load(&old->owners) == 1) return SLM_OK;
    slm_kv_block *mine = malloc(sizeof *mine + rows_bytes(c));
    if (!mine) return SLM_NO_MEMORY;
    if (old) memcpy(mine->rows, old->rows, rows_bytes(c));
    atomic_init(&mine->owners, 1);
    release(old);
    *block = mine;
    return SLM_OK;
}

static enum slm_status reserve(slm_cache *c, int64_t start, int64_t stop) {
    if (stop - start > c->capacity) start = stop - c->capacity;
    for (int64_t position = start; position < stop; position = (position / SLM_KV_BLOCK + 1) * SLM_KV_BLOCK) {
        enum slm_status status = own(c, c->blocks + position % c->capacity / SLM_KV_BLOCK);
        if (status) return status;
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

/* The oldest position whose row is here, if positions below `high` were written. */
static int64_t oldest_row(const slm_cache *c, int64_t high) { return high > c->capacity ? high - c->capacity : 0; }

int64_t slm_kv_rows(const slm_cache *c, int64_t length, int64_t high) { return length - oldest_row(c, high); }

int64_t slm_kv_rewindable_to(const slm_kv *kv, int64_t high) {
    int64_t least = 1;
    for (int64_t i = 0; i < kv->n_caches; i++) {
        const slm_cache *c = kv->caches + i;
        int64_t oldest = oldest_row(c, high), length = oldest + c->window - 1; /* whose next token sees the oldest */
        if (oldest && length > least) least = length;
    }
    return least;
}

int slm_kv_holds(const slm_kv *kv, int64_t length) { return length == 0 || length >= slm_kv_rewindable_to(kv, kv->high); }

enum slm_status slm_kv_restore(slm_kv *kv, int64_t length, int64_t high) {
    for (int64_t i = 0; i < kv->n_caches; i++) {
        enum slm_status status = reserve(kv->caches + i, oldest_row(kv->caches + i, high), length);
        if (status) return status;
    }
    kv->length = length;
    kv->high = high;
    return SLM_OK;
}

static void copy_rows(const slm_kv *kv, int64_t i, float *keys, float *values, int into_cache) {
    const slm_cache *c = kv->caches + i;
    int64_t first = oldest_row(c, kv->high), rows = kv->length - first;
    for (int64_t h = 0; h < c->n_kv_heads; h++)
        for (int64_t row = 0, count; row < rows; row += count) {
            slm_kv_run run = slm_kv_at(c, h, first + row);
            count = run.count < rows - row ? run.count : rows - row;
            int64_t at = (h * rows + row) * c->head_dim;
            size_t bytes = (size_t)(count * c->head_dim) * sizeof(float);
            memcpy(into_cache ? run.keys : keys + at, into_cache ? keys + at : run.keys, bytes);
            memcpy(into_cache ? run.values : values + at, into_cache ? values + at : run.values, bytes);
        }
}

void slm_kv_read(const slm_kv *kv, int64_t cache, float *keys, float *values) { copy_rows(kv, cache, keys, values, 0); }

void slm_kv_write(slm_kv *kv, int64_t cache, const float *keys, const float *values) {
    copy_rows(kv, cache, (float *)keys, (float *)values, 1);
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
    float *keys = c->blocks[slot / SLM_KV_BLOCK]->rows + head * head_floats + row * c->head_dim;
    return (slm_kv_run){keys, keys + c->n_kv_heads * head_floats, SLM_KV_BLOCK - row};
}
