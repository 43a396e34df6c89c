/* Attention: one KV head and a tile of query rows of one session at a time, block by block of the positions that they see.
 *
 * Each block gives a softmax of its own; those of a group of blocks are merged in the order of positions, and then those of groups. So the
 * result depends neither on the tile nor on who computed a block: a lone tile's blocks are shared out among threads, and the last to finish
 * merges what is left to merge.
 */
#include <string.h>

#include "pass.h"

#define PIECES_PER_THREAD 4 /* of a lone tile: the last one keeps the other threads waiting */
#define GROUP 4             /* blocks: the fewer softmaxes lie in memory, and the less is merged while other threads wait */

/* The queries under way: `heads` of them for each of `rows` rows. */
typedef struct tile {
    const slm_pass *pass;
    const slm_op *op;
    const slm_layer *layer;
    const slm_cache *cache;
    int64_t kv_head, heads, row, rows;
    int64_t width;  /* slm_kv_width */
    float *q;       /* (rows, heads, width) */
    slm_seen *seen; /* (rows, heads), of the block at hand */
    slm_softmax total, group, block;
    void *scratch;
    int resumed; /* a kernel has left in scratch what it needs of the queries */
} tile;

static slm_softmax softmax_at(float *memory, int64_t n_q) { return (slm_softmax){memory, memory + n_q, memory + 2 * n_q}; }

static int64_t softmax_floats(const slm_layer *a, int64_t n_q) { return slm_round_up(n_q * (slm_kv_width(a->head_dim) + 2), 16); }

static size_t scratch_bytes(const slm_layer *a) {
    int64_t n_q = slm_attend_tile(a) * (a->n_heads / a->n_kv_heads);
    int64_t floats = n_q * slm_kv_width(a->head_dim) + 3 * softmax_floats(a, n_q) + slm_round_up(2 * n_q, 16);
    return (size_t)floats * sizeof(float) + slm_attend_scratch(n_q, a->head_dim);
}

static int64_t partial_floats(const slm_layer *a, int64_t context) {
    int64_t n_q = slm_attend_tile(a) * (a->n_heads / a->n_kv_heads), rows = context;
    if (a->window && a->window + slm_attend_tile(a) < rows) rows = a->window + slm_attend_tile(a);
    return a->n_kv_heads * softmax_floats(a, n_q) * (rows / SLM_KV_BLOCK + 2);
}

slm_attend_sizes slm_attend_sizes_of(const slm_program *p) {
    slm_attend_sizes most = {0, 0, 0};
    for (int64_t i = 0; i < p->n_layers; i++) {
        const slm_layer *a = p->layers + i;
        if (scratch_bytes(a) > most.scratch_bytes) most.scratch_bytes = scratch_bytes(a);
        if (partial_floats(a, p->context) > most.partial_floats) most.partial_floats = partial_floats(a, p->context);
        if (a->n_kv_heads > most.kv_heads) most.kv_heads = a->n_kv_heads;
    }
    return most;
}

static tile open_tile(const slm_pass *pass, const slm_op *op, int64_t kv_head, int64_t row, int64_t rows, void *memory) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    tile t = {.pass = pass, .op = op, .layer = a, .kv_head = kv_head, .heads = a->n_heads / a->n_kv_heads, .row = row, .rows = rows};
    int64_t d = a->head_dim, n_q = t.heads * rows;
    t.cache = slm_token_at(pass, row)->kv->caches + op->layer;
    t.width = slm_kv_width(d);
    t.q = memory;
    t.total = softmax_at(t.q + n_q * t.width, n_q);
    t.group = softmax_at(t.total.max + softmax_floats(a, n_q), n_q);
    t.block = softmax_at(t.group.max + softmax_floats(a, n_q), n_q);
    t.seen = (slm_seen *)(void *)(t.block.max + softmax_floats(a, n_q));
    t.scratch = (float *)(void *)t.seen + slm_round_up(2 * n_q, 16);
    if (t.width > d) memset(t.q, 0, (size_t)(n_q * t.width) * sizeof(float));
    for (int64_t h = 0; h < n_q; h++) {
        const float *q = slm_row(pass, op->in[0], row + h / t.heads) + (kv_head * t.heads + h % t.heads) * d;
        memcpy(t.q + h * t.width, q, (size_t)d * sizeof(float));
    }
    return t;
}

/* Position of row i of the tile, and the oldest that it sees. */
static int64_t position_of(const tile *t, int64_t i) { return slm_token_at(t->pass, t->row + i)->position; }

static int64_t oldest(const tile *t, int64_t i) {
    int64_t position = position_of(t, i), window = t->layer->window;
    return window && position >= window ? position - window + 1 : 0;
}

static int64_t first_block(const tile *t) { return oldest(t, 0) / SLM_KV_BLOCK; }

static int64_t stop_block(const tile *t) { return position_of(t, t->rows - 1) / SLM_KV_BLOCK + 1; }

/* What row i of the tile sees of a block. */
static slm_seen seen_of(const tile *t, int64_t i, int64_t block) {
    int64_t start = block * SLM_KV_BLOCK, first = oldest(t, i) - start, stop = position_of(t, i) + 1 - start;
    if (first < 0) first = 0;
    if (stop > SLM_KV_BLOCK) stop = SLM_KV_BLOCK;
    return first < stop ? (slm_seen){(int32_t)first, (int32_t)stop} : (slm_seen){0, 0};
}

static slm_kv_view rows_of(const tile *t, int64_t kv_head, int64_t block) {
    return slm_kv_at(t->cache, kv_head, block * SLM_KV_BLOCK);
}

/* A block, behind which the thread most likely goes on with `next`. */
static void attend_block(tile *t, int64_t block, slm_kv_view next, slm_softmax out) {
    const slm_layer *a = t->layer;
    const slm_program *p = &t->pass->runner->program;
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t h = 0; h < t->heads; h++) t->seen[i * t->heads + h] = seen_of(t, i, block);
    slm_attend call = {t->q, t->rows * t->heads, a->head_dim, t->seen, rows_of(t, t->kv_head, block), a->softcap,
                       out,  t->scratch,         t->resumed,  next};
    t->pass->runner->kernels->attend[p->kv_format](&call);
    t->resumed = 1;
}

static void merge(const tile *t, slm_softmax total, slm_softmax part) {
    t->pass->runner->kernels->merge(total, part, t->rows * t->heads, t->width);
}

/* The blocks first..stop-1 of one group, behind which the thread most likely goes on with `next`. */
static void attend_group(tile *t, int64_t first, int64_t stop, slm_kv_view next, slm_softmax out) {
    for (int64_t b = first; b < stop; b++) {
        attend_block(t, b, b + 1 < stop ? rows_of(t, t->kv_head, b + 1) : next, b == first ? out : t->block);
        if (b > first) merge(t, out, t->block);
    }
}

static void close_tile(const tile *t, slm_softmax total) {
    int64_t d = t->layer->head_dim;
    for (int64_t h = 0; h < t->rows * t->heads; h++) {
        float *out = slm_row(t->pass, t->op->out[0], t->row + h / t->heads) + (t->kv_head * t->heads + h % t->heads) * d;
        for (int64_t i = 0; i < d; i++) out[i] = total.acc[h * t->width + i] / total.sum[h];
    }
}

/* The first block behind that of `unit` blocks, 1 or GROUP, of which block b is one. */
static int64_t next_unit(int64_t b, int64_t unit, int64_t stop) {
    int64_t next = (b / unit + 1) * unit;
    return next < stop ? next : stop;
}

static void attend_alone(tile *t) {
    int64_t first = first_block(t), stop = stop_block(t);
    for (int64_t b = first, next; b < stop; b = next) {
        next = next_unit(b, GROUP, stop);
        attend_group(t, b, next, next < stop ? rows_of(t, t->kv_head, next) : (slm_kv_view){0}, b == first ? t->total : t->group);
        if (b > first) merge(t, t->total, t->group);
    }
    close_tile(t, t->total);
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

static int is_lone_tile(const slm_pass *pass) { return pass->runner->tiles[1] == pass->rows; }

/* The blocks first..stop-1 of a lone tile, cut into `runs` of about as many units: groups where there are enough, else blocks. */
typedef struct block_cut {
    int64_t first, stop, unit, units, runs;
} block_cut;

static block_cut cut_blocks(const slm_pass *pass, const slm_layer *a) {
    tile t = {.pass = pass, .layer = a, .rows = pass->rows};
    int64_t runs = (pass->runner->threads * PIECES_PER_THREAD + a->n_kv_heads - 1) / a->n_kv_heads;
    block_cut c = {first_block(&t), stop_block(&t), GROUP, 0, 0};
    c.units = (c.stop - 1) / GROUP - c.first / GROUP + 1;
    if (c.units < runs / 2) {
        c.unit = 1;
        c.units = c.stop - c.first;
    }
    c.runs = runs < c.units ? runs : c.units;
    return c;
}

/* The first block of a run. */
static int64_t run_start(block_cut c, int64_t run) {
    int64_t start = (c.first / c.unit + c.units * run / c.runs) * c.unit;
    return start < c.first ? c.first : start < c.stop ? start : c.stop;
}

int64_t slm_pass_attend_pieces(slm_pass *pass, const slm_op *op) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    int64_t tiles = cut_tiles(pass, slm_attend_tile(a));
    if (tiles > 1) return tiles * a->n_kv_heads;
    int64_t runs = cut_blocks(pass, a).runs;
    for (int64_t h = 0; h < a->n_kv_heads; h++) atomic_store(pass->runner->unfinished + h, runs);
    return runs * a->n_kv_heads;
}

/* Of blocks that were attended to by units, each into the place of its first. */
static slm_softmax merge_units(const tile *t, block_cut c, float *partials, int64_t floats) {
    int64_t n_q = t->rows * t->heads;
    slm_softmax total = softmax_at(partials, n_q);
    for (int64_t g = c.first, stop; g < c.stop; g = stop) {
        slm_softmax group = softmax_at(partials + (g - c.first) * floats, n_q);
        stop = next_unit(g, GROUP, c.stop);
        for (int64_t b = next_unit(g, c.unit, stop); b < stop; b++) merge(t, group, softmax_at(partials + (b - c.first) * floats, n_q));
        if (g > c.first) merge(t, total, group);
    }
    return total;
}

/* What a thread takes up behind a piece: the next piece, the next run or the first one of the next head, if it is in the thread's share. */
static slm_kv_view behind_piece(const tile *t, block_cut c, int64_t piece) {
    int64_t pieces = c.runs * t->layer->n_kv_heads, next = piece + 1, threads = t->pass->runner->threads;
    if (slm_pool_share(pieces, threads, next) != slm_pool_share(pieces, threads, piece)) return (slm_kv_view){0};
    return rows_of(t, next / c.runs, run_start(c, next % c.runs));
}

/* A run of the blocks of a lone tile. */
static void attend_shared(tile *t, block_cut c, int64_t piece) {
    int64_t run = piece % c.runs;
    slm_kv_view after = behind_piece(t, c, piece);
    int64_t n_q = t->rows * t->heads, floats = softmax_floats(t->layer, n_q), stop = run_start(c, run + 1);
    float *partials = t->pass->runner->partials + t->kv_head * (c.stop - c.first) * floats;
    for (int64_t b = run_start(c, run), next; b < stop; b = next) {
        next = next_unit(b, c.unit, stop);
        attend_group(t, b, next, next < stop ? rows_of(t, t->kv_head, next) : after, softmax_at(partials + (b - c.first) * floats, n_q));
    }
    if (atomic_fetch_sub(t->pass->runner->unfinished + t->kv_head, 1) == 1) close_tile(t, merge_units(t, c, partials, floats));
}

/* Pieces of a lone tile go head by head: a thread's share of them is mostly of the same head, whose parts it then merges itself. */
void slm_pass_attend(slm_pass *pass, const slm_op *op, int64_t piece, void *scratch) {
    const slm_layer *a = pass->runner->program.layers + op->layer;
    const int32_t *tiles = pass->runner->tiles;
    if (is_lone_tile(pass)) {
        block_cut c = cut_blocks(pass, a);
        tile t = open_tile(pass, op, piece / c.runs, 0, pass->rows, scratch);
        attend_shared(&t, c, piece);
    } else {
        int64_t i = piece / a->n_kv_heads;
        tile t = open_tile(pass, op, piece % a->n_kv_heads, tiles[i], tiles[i + 1] - tiles[i], scratch);
        attend_alone(&t);
    }
}
