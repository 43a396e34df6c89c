/* Attention: one KV head and a tile of query rows of one session at a time.
 *
 * Rows of a tile visit the cache rows that all of them see together, and the others, before (a window's beginning) and after (the
 * causal end), one by one. Cuts lie at multiples of SLM_ATTEND_BLOCK, so that the result does not depend on the tile.
 */
#include <math.h>
#include <string.h>

#include "pass.h"

/* The queries under way: `heads` of them for each of `rows` rows, and their softmax state, in the thread's scratch. */
typedef struct tile {
    const slm_pass *pass;
    const slm_layer *layer;
    const slm_cache *cache;
    int64_t kv_head, heads, row, rows;
    float *q, *acc, *max, *sum;
} tile;

static tile open_tile(const slm_pass *pass, const slm_op *op, int64_t kv_head, int64_t row, int64_t rows, float *scratch) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    const slm_cache *cache = slm_token_at(pass, row)->kv->caches + op->layer;
    tile t = {pass, a, cache, kv_head, a->n_heads / a->n_kv_heads, row, rows, scratch, 0, 0, 0};
    int64_t states = t.heads * rows, width = t.heads * a->head_dim;
    t.acc = t.q + rows * width;
    t.max = t.acc + rows * width;
    t.sum = t.max + states;
    for (int64_t i = 0; i < rows; i++)
        memcpy(t.q + i * width, slm_row(pass, op->in[0], row + i) + kv_head * width, (size_t)width * sizeof(float));
    memset(t.acc, 0, (size_t)(rows * width) * sizeof(float));
    for (int64_t i = 0; i < states; i++) t.max[i] = -INFINITY, t.sum[i] = 0;
    return t;
}

/* The rows i0..i1-1 of the tile attend to positions first..stop-1. */
static void visit(const tile *t, int64_t i0, int64_t i1, int64_t first, int64_t stop) {
    const slm_layer *a = t->layer;
    int64_t s = i0 * t->heads, n_q = (i1 - i0) * t->heads;
    while (first < stop) {
        slm_kv_run run = slm_kv_at(t->cache, t->kv_head, first);
        int64_t count = run.count < stop - first ? run.count : stop - first;
        int64_t to_block = (SLM_ATTEND_BLOCK - first % SLM_ATTEND_BLOCK) % SLM_ATTEND_BLOCK;
        if (to_block && to_block < count) count = to_block;
        t->pass->runner->kernels->attend(t->q + s * a->head_dim, n_q, a->head_dim, run.keys, run.values, a->head_dim, count,
                                         a->softcap, t->max + s, t->sum + s, t->acc + s * a->head_dim);
        first += count;
    }
}

/* Oldest position that row i of the tile sees. */
static int64_t oldest(const tile *t, int64_t i) {
    int64_t position = slm_token_at(t->pass, t->row + i)->position, window = t->layer->window;
    return window && position >= window ? position - window + 1 : 0;
}

static void close_tile(const tile *t, const slm_op *op) {
    int64_t d = t->layer->head_dim, width = t->heads * d;
    for (int64_t i = 0; i < t->rows; i++) {
        float *out = slm_row(t->pass, op->out[0], t->row + i) + t->kv_head * width;
        for (int64_t j = 0; j < width; j++) out[j] = t->acc[i * width + j] / t->sum[i * t->heads + j / d];
    }
}

static void attend(const slm_pass *pass, const slm_op *op, int64_t kv_head, int64_t row, int64_t rows, float *scratch) {
    tile t = open_tile(pass, op, kv_head, row, rows, scratch);
    int64_t position = slm_token_at(pass, row)->position;
    int64_t first = slm_round_up(oldest(&t, rows - 1), SLM_ATTEND_BLOCK);
    int64_t stop = (position + 1) / SLM_ATTEND_BLOCK * SLM_ATTEND_BLOCK;
    if (stop < first) stop = first = position + rows; /* no block is seen by all: everything row by row */
    for (int64_t i = 0; i < rows; i++) {
        int64_t end = position + i + 1;
        visit(&t, i, i + 1, oldest(&t, i), first < end ? first : end);
    }
    visit(&t, 0, rows, first, stop);
    for (int64_t i = 0; i < rows; i++) visit(&t, i, i + 1, stop, position + i + 1);
    close_tile(&t, op);
}

/* Cuts the rows into tiles; returns how many there are. */
static int64_t cut_tiles(slm_pass *pass, int64_t size) {
    int32_t *tiles = pass->runner->tiles;
    int64_t n = 0;
    for (int64_t row = 0; row < pass->rows; row++)
        if (n == 0 || row - tiles[n - 1] == size || slm_token_at(pass, row)->kv != slm_token_at(pass, row - 1)->kv)
            tiles[n++] = (int32_t)row;
    tiles[n] = (int32_t)pass->rows;
    return n;
}

int64_t slm_pass_attend_pieces(slm_pass *pass, const slm_op *op) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    return cut_tiles(pass, slm_attend_tile(a)) * a->n_kv_heads;
}

void slm_pass_attend(slm_pass *pass, const slm_op *op, int64_t piece, void *scratch) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    const int32_t *tile = pass->runner->tiles + piece / a->n_kv_heads;
    attend(pass, op, piece % a->n_kv_heads, tile[0], tile[1] - tile[0], scratch);
}
