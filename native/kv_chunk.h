/* Memory of the blocks of one session: many to a chunk, which the system may then map by huge pages. A long cache goes through some thousand
 * pages a token otherwise, each of which a core has to look up.
 */
#ifndef SLM_KV_CHUNK_H
#define SLM_KV_CHUNK_H

#include <stddef.h>

typedef struct slm_kv_chunk slm_kv_chunk;

/* `bytes` at a multiple of 64, from the chunk *open, or from a new one of at least chunk_bytes, which is then the open one. They belong to *open
 * as it is behind the call. NULL, and no change, where memory is short. */
void *slm_kv_carve(slm_kv_chunk **open, size_t bytes, size_t chunk_bytes);

/* Gives back one piece of a chunk, or the chunk as the open one: with the last of them it is freed. Any thread; NULL: nothing. */
void slm_kv_give_back(slm_kv_chunk *chunk);

#endif
