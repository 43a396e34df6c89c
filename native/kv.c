#include "kv.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kv_rows.h"

#define CHUNK_BYTES ((size_t)8 << 20) /* of memory: some huge pages, so that there is little left where the next block does not fit */

struct slm_kv_block {
    atomic_llong owners; /* only an owner can add one, so who finds itself alone stays alone */
    slm_kv_chunk *chunk;
    _Alignas(64) char rows[];
};

static size_t rows_bytes(const slm_cache *c) { return (size_t)c->n_kv_heads * slm_kv_head_bytes(c->format, c->head_dim); }

static void release(slm_kv_block *block) {
    if (block && atomic_fetch_sub(&block->owners, 1) == 1) slm_kv_give_back(block->chunk);
}

static slm_cache empty_cache(const slm_program *p, const slm_layer *a) {
    int64_t rows = p->context;
    if (a->window && a->window - 1 + SLM_CHUNK < rows) rows = a->window - 1 + SLM_CHUNK;
    return (slm_cache){p->kv_format, a->n_kv_heads, a->head_dim, a->window, slm_round_up(rows, SLM_KV_BLOCK), NULL};
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

/* Small caches take no more than they need. So do all where a sanitizer is to see what is written beside a block. */
static size_t chunk_bytes_of(const slm_program *p) {
#ifdef __SANITIZE_ADDRESS__
    (void)p;
    return 0;
#else
    return slm_kv_bytes(p, p->context) < 2 * CHUNK_BYTES ? 0 : CHUNK_BYTES;
#endif
}

enum slm_status slm_kv_init(slm_kv *kv, const slm_program *p) {
    *kv = (slm_kv){.n_caches = p->n_layers, .caches = calloc((size_t)p->n_layers + 1, sizeof *kv->caches)};
    if (!kv->caches) return SLM_NO_MEMORY;
    kv->chunk_bytes = chunk_bytes_of(p);
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
    slm_kv_give_back(kv->open);
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

/* Copies the first rows of a block; what lies behind them is nobody's. A fork of a short sequence would spend most of its time on it. */
static void copy_block(const slm_cache *c, slm_kv_block *to, slm_kv_block *from, int64_t rows) {
    int64_t d = c->head_dim, lanes = c->format == SLM_Q8 ? SLM_KV_BYTE_LANES : SLM_KV_LANES;
    size_t lane_bytes = (size_t)lanes * slm_kv_value_bytes(c->format), panel_bytes = SLM_KV_BLOCK * lane_bytes;
    size_t keys_bytes = (size_t)(slm_round_up(rows, lanes) / lanes * slm_kv_width(d)) * lane_bytes;
    size_t values_bytes = (size_t)slm_round_up(rows, SLM_KV_BYTE_STEPS) * lane_bytes;
    for (int64_t h = 0; h < c->n_kv_heads; h++) {
        size_t at = (size_t)h * slm_kv_head_bytes(c->format, d);
        slm_kv_view a = slm_kv_view_in(c->format, d, from->rows + at), b = slm_kv_view_in(c->format, d, to->rows + at);
        memcpy(b.keys, a.keys, keys_bytes);
        for (size_t panel = 0; panel < slm_kv_part_bytes(c->format, d); panel += panel_bytes)
            memcpy((char *)b.values + panel, (char *)a.values + panel, values_bytes);
        if (c->format != SLM_Q8) continue;
        memcpy(b.key_scales, a.key_scales, (size_t)rows * sizeof(float));
        memcpy(b.value_scales, a.value_scales, (size_t)rows * sizeof(float));
    }
}

static slm_kv_block *new_block(const slm_cache *c, slm_kv_chunk **open, size_t chunk_bytes) {
    slm_kv_block *block = slm_kv_carve(open, sizeof *block + rows_bytes(c), chunk_bytes);
    if (!block) return NULL;
    block->chunk = *open;
    atomic_init(&block->owners, 1);
    return block;
}

/* On its own: a session that is forked again and again would leave a hole in its chunks each time. */
static slm_kv_block *copy_of(const slm_cache *c, slm_kv_block *from, int64_t rows) {
    slm_kv_chunk *alone = NULL;
    slm_kv_block *block = new_block(c, &alone, 0);
    slm_kv_give_back(alone);
    if (block) copy_block(c, block, from, rows);
    return block;
}

/* Makes *block, of which the first `rows` are in use, one that may be written to: there, and nobody else's. */
static enum slm_status own(slm_kv *kv, const slm_cache *c, slm_kv_block **block, int64_t rows) {
    slm_kv_block *old = *block;
    if (old && atomic_load(&old->owners) == 1) return SLM_OK;
    slm_kv_block *mine = old ? copy_of(c, old, rows) : new_block(c, &kv->open, kv->chunk_bytes);
    if (!mine) return SLM_NO_MEMORY;
    release(old);
    *block = mine;
    return SLM_OK;
}

static enum slm_status reserve(slm_kv *kv, slm_cache *c, int64_t start, int64_t stop) {
    if (stop - start > c->capacity) start = stop - c->capacity;
    for (int64_t position = start; position < stop; position = (position / SLM_KV_BLOCK + 1) * SLM_KV_BLOCK) {
        int64_t rows = position < c->capacity ? position % SLM_KV_BLOCK : SLM_KV_BLOCK; /* a turn of the ring ago */
        enum slm_status status = own(kv, c, c->blocks + position % c->capacity / SLM_KV_BLOCK, rows);
        if (status) return status;
    }
    return SLM_OK;
}

enum slm_status slm_kv_reserve(slm_kv *kv, int64_t n) {
    for (int64_t i = 0; i < kv->n_caches; i++) {
        enum slm_status status = reserve(kv, kv->caches + i, kv->length, kv->length + n);
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
        enum slm_status status = reserve(kv, kv->caches + i, oldest_row(kv->caches + i, high), length);
        if (status) return status;
    }
    kv->length = length;
    kv->high = high;
    return SLM_OK;
}

static void copy(void *in_cache, int64_t at, void *in_array, int64_t i, size_t bytes, int into_cache) {
    char *cache = (char *)in_cache + (size_t)at * bytes, *array = (char *)in_array + (size_t)i * bytes;
    memcpy(into_cache ? cache : array, into_cache ? array : cache, bytes);
}

/* One row of a block, and row i of the arrays. */
static void copy_row(const slm_cache *c, const slm_kv_view *rows, int64_t row, const slm_kv_arrays *arrays, int64_t i, int into_cache) {
    size_t bytes = slm_kv_value_bytes(c->format);
    for (int64_t j = 0; j < c->head_dim; j++) {
        copy(rows->keys, slm_key_index(c->format, c->head_dim, row, j), arrays->keys, i * c->head_dim + j, bytes, into_cache);
        copy(rows->values, slm_value_index(c->format, row, j), arrays->values, i * c->head_dim + j, bytes, into_cache);
    }
    if (c->format != SLM_Q8) return;
    copy(rows->key_scales, row, arrays->key_scales, i, sizeof(float), into_cache);
    copy(rows->value_scales, row, arrays->value_scales, i, sizeof(float), into_cache);
}

static void copy_rows(const slm_kv *kv, int64_t i, const slm_kv_arrays *arrays, int into_cache) {
    const slm_cache *c = kv->caches + i;
    int64_t first = oldest_row(c, kv->high), rows = kv->length - first;
    for (int64_t h = 0; h < c->n_kv_heads; h++)
        for (int64_t row = 0; row < rows; row++) {
            slm_kv_view block = slm_kv_at(c, h, first + row);
            copy_row(c, &block, (first + row) % SLM_KV_BLOCK, arrays, h * rows + row, into_cache);
        }
}

void slm_kv_read(const slm_kv *kv, int64_t cache, const slm_kv_arrays *to) { copy_rows(kv, cache, to, 0); }

void slm_kv_write(slm_kv *kv, int64_t cache, const slm_kv_arrays *from) { copy_rows(kv, cache, from, 1); }

enum slm_status slm_kv_truncate(slm_kv *kv, int64_t length) {
    if (!slm_kv_holds(kv, length)) return SLM_FORGOTTEN;
    kv->length = length;
    if (length == 0) kv->high = 0;
    return SLM_OK;
}

slm_kv_view slm_kv_at(const slm_cache *c, int64_t head, int64_t position) {
    slm_kv_block *block = c->blocks[position % c->capacity / SLM_KV_BLOCK];
    return slm_kv_view_in(c->format, c->head_dim, block->rows + (size_t)head * slm_kv_head_bytes(c->format, c->head_dim));
}
