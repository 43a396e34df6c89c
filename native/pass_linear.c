/* Matrix products: ranges of outputs, taken by whichever thread is free. */
#include <math.h>

#include "pass.h"

#define PIECES_PER_THREAD 8

typedef struct piece {
    int32_t segment;
    int64_t n0, n1;
} piece;

/* Outputs of one piece: enough pieces to even out threads of unequal speed, none smaller than a kernel likes. */
static int64_t piece_size(const slm_runner *r, const slm_op *op) {
    int64_t n = 0;
    for (int s = 0; s < op->segments; s++) n += r->program.weights[op->weight[s]].matrix.n;
    return r->threads == 1 ? n : slm_round_up(n / (r->threads * PIECES_PER_THREAD) + 1, SLM_LINEAR_STEP);
}

/* Piece i of the segments laid end to end; segment is SLM_NONE behind the last. */
static piece find_piece(const slm_program *p, const slm_op *op, int64_t size, int64_t i) {
    for (int32_t s = 0; s < op->segments; s++) {
        int64_t n = p->weights[op->weight[s]].matrix.n, pieces = (n + size - 1) / size;
        if (i < pieces) return (piece){s, i * size, (i + 1) * size < n ? (i + 1) * size : n};
        i -= pieces;
    }
    return (piece){.segment = SLM_NONE};
}

static void cap(float *y, int64_t n, float softcap) {
    for (int64_t j = 0; j < n; j++) y[j] = softcap * tanhf(y[j] / softcap);
}

static void run_piece(slm_worker *worker, const slm_op *op, piece at) {
    const slm_pass *pass = worker->pass;
    const slm_runner *r = pass->runner;
    const slm_matrix *w = &r->program.weights[op->weight[at.segment]].matrix;
    int packed = r->kernels->pack[w->format] != NULL;
    const void *x = packed ? (const void *)r->packed : slm_row(pass, op->in[0], 0);
    size_t x_stride = packed ? slm_act_row_bytes(w->format, w->k, w->group)
                             : (size_t)r->program.values[op->in[0]].stride * sizeof(float);
    int32_t out = op->out[at.segment], bias = op->bias[at.segment];
    float *y = out == SLM_LOGITS ? pass->logits : slm_row(pass, out, 0);
    int64_t y_stride = out == SLM_LOGITS ? w->n : r->program.values[out].stride;
    r->kernels->linear[w->format](w, at.n0, at.n1, x, x_stride, worker->rows, y, y_stride,
                                  bias == SLM_NONE ? NULL : r->program.vectors[bias].data, op->accumulate, worker->scratch);
    for (int64_t i = 0; op->softcap != 0 && i < worker->rows; i++) cap(y + i * y_stride + at.n0, at.n1 - at.n0, op->softcap);
}

void slm_pass_linear(slm_worker *worker, const slm_op *op) {
    const slm_runner *r = worker->pass->runner;
    int64_t size = piece_size(r, op), i;
    while ((i = slm_take(worker->pass, op, INT64_MAX)) >= 0) {
        piece at = find_piece(&r->program, op, size, i);
        if (at.segment == SLM_NONE) return;
        run_piece(worker, op, at);
    }
}
