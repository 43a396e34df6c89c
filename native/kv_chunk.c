#include "kv_chunk.h"

#include <stdatomic.h>
#include <stdint.h>

#include "system.h"

struct slm_kv_chunk {
    atomic_llong holders; /* pieces in use, and whoever has it open */
    size_t bytes, used;
    _Alignas(64) char pieces[];
};

void slm_kv_give_back(slm_kv_chunk *chunk) {
    if (chunk && atomic_fetch_sub(&chunk->holders, 1) == 1) slm_free_aligned(chunk);
}

static slm_kv_chunk *new_chunk(size_t bytes, size_t chunk_bytes) {
    if (bytes > SIZE_MAX - sizeof(slm_kv_chunk)) return NULL;
    size_t least = sizeof(slm_kv_chunk) + bytes;
    if (least < chunk_bytes) least = chunk_bytes;
    slm_kv_chunk *chunk = slm_alloc_huge(least);
    if (!chunk) return NULL;
    chunk->bytes = least - sizeof *chunk;
    chunk->used = 0;
    atomic_init(&chunk->holders, 1);
    return chunk;
}

void *slm_kv_carve(slm_kv_chunk **open, size_t bytes, size_t chunk_bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (!*open || (*open)->bytes - (*open)->used < bytes) {
        slm_kv_chunk *chunk = new_chunk(bytes, chunk_bytes);
        if (!chunk) return NULL;
        slm_kv_give_back(*open);
        *open = chunk;
    }
    void *piece = (*open)->pieces + (*open)->used;
    (*open)->used += bytes;
    atomic_fetch_add(&(*open)->holders, 1);
    return piece;
}
