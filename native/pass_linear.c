/* Matrix products, cut into ranges of outputs. */
#include <math.h>

#include "pass.h"

#define PIECES_PER_THREAD 8
#define PIECE_PRODUCTS (1 << 15) /* multiply-adds below which handing out a piece costs more than it saves */

typedef struct piece {
    int32_t segment;
    int64_t n0, n1;
} piece;

/* Outputs of one piece: enough pieces to even out threads of unequal speed, none too small to be worth it. */
static int64_t piece_size(const slm_pass *pass, const slm_op *op) {
    const slm_runner *r = pass->runner;
    int64_t n = 0, k = r->program.weights[op->weight[0]].matrix.k;
    for (int s = 0; s < op->segments; s++) n += r->program.weights[op->weight[s]].matrix.n;
    if (r->threads == 1) return n;
    int64_t even = n / (r->threads * PIECES_PER_THREAD), worth = PIECE_PRODUCTS / (k * pass->live_rows);
    return slm_round_up((even > worth ? even : worth) + 1, SLM_LINEAR_STEP);
}

/* Piece i of the segments laid end to end. */
static piece find_piece(const slm_program *p, const slm_op *op, int64_t size, int64_t i) {
    int32_t s = 0;
    int64_t pieces;
    while (i >= (pieces = (p->weights[op->weight[s]].matrix.n + size - 1) / size)) {
        i -= pieces;
        s++;
    }
    int64_t n = p->weights[op->weight[s]].matrix.n;
    return (piece){s, i * size, (i + 1) * size < n ? (i + 1) * size : n};
}

static void cap(float *y, int64_t n, float softcap) {
    for (int64_t j = 0; j < n; j++) y[j] = softcap * tanhf(y[j] / softcap);
}

int64_t slm_pass_linear_pieces(const slm_pass *pass, const slm_op *op) {
    const slm_runner *r = pass->runner;
    int64_t size = piece_size(pass, op), pieces = 0;
    for (int s = 0; s < op->segments; s++) pieces += (r->program.weights[op->weight[s]].matrix.n + size - 1) / size;
    return pieces;
}

void slm_pass_linear(slm_pass *pass, const slm_op *op, int64_t i, void *scratch) {
    const slm_runner *r = pass->runner;
    piece at = find_piece(&r->program, op, piece_size(pass, op), i);
    const slm_matrix *w = &r->program.weights[op->weight[at.segment]].matrix;
    int packed = r->kernels->pack[w->format] != NULL;
    const void *x = packed ? (const void *)r->packed : slm_row(pass, op->in[0], 0);
    size_t x_stride = packed ? slm_act_row_bytes(w->format, w->k, w->group)
                             : (size_t)r->program.values[op->in[0]].stride * sizeof(float);
    int32_t out = op->out[at.segment], bias = op->bias[at.segment];
    float *y = out == SLM_LOGITS ? pass->logits : slm_row(pass, out, 0);
    int64_t m = pass->live_rows, y_stride = out == SLM_LOGITS ? w->n : r->program.values[out].stride;
    r->kernels->linear[w->format](w, at.n0, at.n1, x, x_stride, m, y, y_stride,
                                  bias == SLM_NONE ? NULL : r->program.vectors[bias].data, op->accumulate, scratch);
    for (int64_t row = 0; op->softcap != 0 && row < m; row++) cap(y + row * y_stride + at.n0, at.n1 - at.n0, op->softcap);
}
