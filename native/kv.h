/* Key and value rows of one session, by logical position.
 *
 * A layer's cache has `capacity` row slots in blocks of SLM_KV_BLOCK, allocated when first used; position p lies in slot
 * p % capacity. Full attention has a slot for every position of the context, so memory follows use. A window of w tokens has w - 1
 * + SLM_CHUNK slots (rounded up to blocks): a ring in which the rows that a chunk still needs are never overwritten by it, and
 * from which the last SLM_CHUNK tokens can be taken back exactly.
 *
 * Blocks may be shared: a fork takes no memory, and whoever writes to a block first gets a copy of it.
 */
#ifndef SLM_KV_H
#define SLM_KV_H

#include "kv_chunk.h"
#include "program.h"

typedef struct slm_kv_block slm_kv_block; /* SLM_KV_BLOCK rows: those of one KV head after the other, as kv_rows.h lays them out */

typedef struct slm_cache {
    int32_t format; /* of its rows */
    int64_t n_kv_heads, head_dim, window, capacity;
    slm_kv_block **blocks; /* capacity / SLM_KV_BLOCK */
} slm_cache;

typedef struct slm_kv {
    int64_t n_caches;
    slm_cache *caches;
    size_t chunk_bytes; /* of memory that is taken at once */
    slm_kv_chunk *open; /* from which the next block is taken */
    int64_t length; /* tokens held */
    int64_t high;   /* positions below this were written since the cache was last empty */
} slm_kv;

enum slm_status slm_kv_init(slm_kv *kv, const slm_program *program);

/* What the blocks of a kv of this program take for its first `tokens` tokens; there may be most of a chunk beside them. */
size_t slm_kv_bytes(const slm_program *program, int64_t tokens);

void slm_kv_free(slm_kv *kv);

/* Makes *to, which is initialised and empty, a copy of a kv of the same program. Safe against other threads that free or fork copies. */
void slm_kv_fork(const slm_kv *kv, slm_kv *to);

/* Makes room for positions length..length + n - 1. A failure changes nothing that was there. */
enum slm_status slm_kv_reserve(slm_kv *kv, int64_t n);

/* The smallest length above 0 from which all rows that going on needs are here, if positions below `high` were written. */
int64_t slm_kv_rewindable_to(const slm_kv *kv, int64_t high);

/* Are all rows that going on from `length` tokens needs still here? */
int slm_kv_holds(const slm_kv *kv, int64_t length);

/* Forgets all but the first `length` tokens (0..kv->length); SLM_FORGOTTEN, and no change, where rows needed are gone. */
enum slm_status slm_kv_truncate(slm_kv *kv, int64_t length);

/* Rows that a cache keeps of `length` tokens, the last ones, if positions below `high` were written. */
int64_t slm_kv_rows(const slm_cache *cache, int64_t length, int64_t high);

/* Makes an empty kv one of `length` tokens that has held `high` (length <= high <= context, and slm_kv_rewindable_to allows
 * it); its rows are the caller's to write. */
enum slm_status slm_kv_restore(slm_kv *kv, int64_t length, int64_t high);

/* Rows as arrays: keys and values (n_kv_heads, rows, head_dim) of float32, float16 or int8, and of q8 float32 scales (n_kv_heads, rows). */
typedef struct slm_kv_arrays {
    void *keys, *values;
    float *key_scales, *value_scales;
} slm_kv_arrays;

/* Copies the rows that a cache keeps out to arrays, or in from them, to the bit. */
void slm_kv_read(const slm_kv *kv, int64_t cache, const slm_kv_arrays *to);
void slm_kv_write(slm_kv *kv, int64_t cache, const slm_kv_arrays *from);

/* The block that holds `position`, of which that is row position % SLM_KV_BLOCK. Reserved positions only. */
slm_kv_view slm_kv_at(const slm_cache *cache, int64_t head, int64_t position);

#endif
