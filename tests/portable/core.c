/* Runs native/ without Python, to try it on a system for which there is none here: a decoder of two layers over weights made up on the
 * spot, in every set of kernels that the machine has. However a sequence is cut, with any number of threads, the logits must be the
 * same bits, and those of every set near those of `ref`, which are printed; threads must wait for their turn, be cancelled and be given
 * back. Status 1 on a failure.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bandwidth.h"
#include "cpu.h"
#include "dispatch.h"
#include "engine.h"
#include "pool.h"
#include "system.h"

enum { VOCAB = 96, WIDTH = 64, INNER = 128, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, LAYERS = 2, LIMIT = 700, WINDOW = 40, TOKENS = 600 };
enum { X, H, Q, K, V, A, GATE, UP, LAST, VALUES };             /* values of the program */
enum { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, PER_LAYER };  /* matrices of a layer; embedding and head come behind them */
enum { EMBED = LAYERS * PER_LAYER, HEAD, WEIGHTS };
enum { OPS_PER_LAYER = 9, OPS = 1 + LAYERS * OPS_PER_LAYER + 3 };

#define EXPECT(condition) expect(condition, #condition, __LINE__)

static void expect(int holds, const char *what, int line) {
    if (holds) return;
    printf("line %d: not so: %s\n", line, what);
    exit(1);
}

static uint32_t state = 1;

static uint32_t next(void) { return (state = state * 1664525 + 1013904223) >> 8; }

static void *filled(size_t bytes) {
    uint8_t *memory = slm_alloc_aligned(bytes);
    EXPECT(memory != NULL);
    for (size_t i = 0; i < bytes; i++) memory[i] = (uint8_t)next();
    return memory;
}

static float *floats(int64_t n, float low, float high) {
    float *memory = slm_alloc_aligned((size_t)n * sizeof *memory);
    EXPECT(memory != NULL);
    for (int64_t i = 0; i < n; i++) memory[i] = low + (high - low) * (float)(next() & 0xffff) / 65536;
    return memory;
}

static slm_weight weight(int32_t format, int64_t n, int64_t k) {
    if (format == SLM_F32) return (slm_weight){{SLM_F32, 0, n, k, floats(n * k, -0.1f, 0.1f), NULL, 1}, (uint64_t)(n * k * 4), 0};
    int64_t bytes = n * k / (format == SLM_Q4 ? 2 : 1), scales = n * k / 32;
    uint16_t *halves = filled((size_t)scales * 2);
    int exponent = format == SLM_Q4 ? 0x2400 : 0x1400; /* of half precision: weights of some hundredths */
    for (int64_t i = 0; i < scales; i++) halves[i] = (uint16_t)(exponent | (halves[i] & 0x3ff));
    return (slm_weight){{format, 32, n, k, filled((size_t)bytes), halves, 1}, (uint64_t)bytes, (uint64_t)scales * 2};
}

static slm_op *layer_ops(slm_op *op, int layer) {
    int32_t w = layer * PER_LAYER, norm = layer * 2, none[3] = {SLM_NONE, SLM_NONE, SLM_NONE};
    slm_op ops[OPS_PER_LAYER] = {
        {SLM_NORM, {X}, {H}, {norm}, {0}, .groups = 1, .eps = 1e-5f},
        {SLM_LINEAR, {H}, {Q, K, V}, {w + W_Q, w + W_K, w + W_V}, {0}, .segments = 3},
        {SLM_KV_STORE, {Q, K, V}, {0}, {0}, {0}, .layer = layer},
        {SLM_ATTEND, {Q}, {A}, {0}, {0}, .layer = layer},
        {SLM_LINEAR, {A}, {X}, {w + W_O}, {0}, .segments = 1, .accumulate = 1},
        {SLM_NORM, {X}, {H}, {norm + 1}, {0}, .groups = 1, .eps = 1e-5f},
        {SLM_LINEAR, {H}, {GATE, UP}, {w + W_GATE, w + W_UP}, {0}, .segments = 2},
        {SLM_ACT_MUL, {GATE, UP}, {0}, {0}, {0}, .act = SLM_SILU},
        {SLM_LINEAR, {GATE}, {X}, {w + W_DOWN}, {0}, .segments = 1, .accumulate = 1},
    };
    for (int i = 0; i < OPS_PER_LAYER; i++) {
        memcpy(ops[i].bias, none, sizeof none);
        *op++ = ops[i];
    }
    return op;
}

static void fill_ops(slm_op *op) {
    *op++ = (slm_op){SLM_EMBED, {0}, {X}, {EMBED}, {0}, .scale = 1};
    for (int layer = 0; layer < LAYERS; layer++) op = layer_ops(op, layer);
    *op++ = (slm_op){.kind = SLM_SELECT, .in = {X}, .out = {LAST}};
    *op++ = (slm_op){SLM_NORM, {LAST}, {LAST}, {2 * LAYERS}, {0}, .groups = 1, .eps = 1e-5f};
    *op = (slm_op){SLM_LINEAR, {LAST}, {SLM_LOGITS}, {HEAD}, {SLM_NONE}, .segments = 1};
}

static slm_weight weights[WEIGHTS];
static slm_vector norms[2 * LAYERS + 1];
static slm_rope rope;

static void make_weights(void) {
    const int shapes[PER_LAYER][2] = {{WIDTH, WIDTH}, {KV_HEADS * HEAD_DIM, WIDTH}, {KV_HEADS * HEAD_DIM, WIDTH}, {WIDTH, WIDTH},
                                      {INNER, WIDTH}, {INNER, WIDTH}, {WIDTH, INNER}};
    for (int i = 0; i < LAYERS * PER_LAYER; i++)
        weights[i] = weight(i < PER_LAYER ? SLM_Q8 : SLM_Q4, shapes[i % PER_LAYER][0], shapes[i % PER_LAYER][1]);
    weights[EMBED] = weight(SLM_F32, VOCAB, WIDTH);
    weights[HEAD] = weight(SLM_Q8, VOCAB, WIDTH);
    for (int i = 0; i < 2 * LAYERS + 1; i++) norms[i] = (slm_vector){floats(WIDTH, 0.5f, 1.5f), WIDTH};
    rope = (slm_rope){.inv_freq = floats(HEAD_DIM / 2, 0.001f, 1), .half = HEAD_DIM / 2, .scale = 1};
}

static slm_model *open_model(const slm_kernels *kernels, int threads, int32_t kv_format) {
    slm_program p = {VOCAB, LIMIT, kv_format, VALUES, WEIGHTS, 2 * LAYERS + 1, 1, LAYERS, OPS, .values = NULL};
    const int64_t widths[VALUES] = {WIDTH, WIDTH, WIDTH, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, WIDTH, INNER, INNER, WIDTH};
    EXPECT(slm_program_alloc(&p) == SLM_OK);
    for (int i = 0; i < VALUES; i++) p.values[i].width = widths[i];
    for (int i = 0; i < LAYERS; i++) p.layers[i] = (slm_layer){HEADS, KV_HEADS, HEAD_DIM, 0, i ? WINDOW : 0, 0.25f, 0};
    memcpy(p.weights, weights, sizeof weights);
    memcpy(p.vectors, norms, sizeof norms);
    p.ropes[0] = rope;
    fill_ops(p.ops);
    int64_t where;
    EXPECT(slm_program_check(&p, &where) == SLM_OK);
    slm_model *model = NULL;
    EXPECT(slm_model_open(&p, kernels, threads, &model) == SLM_OK);
    return model;
}

static int32_t ids[TOKENS];

/* Appends ids[from..to) to a session that holds the ones before; logits of the last into `logits`. */
static enum slm_status run(slm_session *session, int from, int to, float *logits) {
    slm_watch watch = {NULL, NULL, 0, 0};
    return slm_sessions_run(&(slm_segment){session, from, ids + from, to - from, 0}, 1, logits, &watch);
}

static slm_session *open_session(slm_model *model) {
    slm_session *session = NULL;
    EXPECT(slm_session_open(model, &session) == SLM_OK);
    return session;
}

static void end_session(slm_session *session) {
    slm_session_close(session);
    slm_session_free(session);
}

static void end_model(slm_model *model) {
    slm_model_close(model);
    slm_model_free(model);
}

/* One prompt, token by token, in unequal pieces, forked on the way: the same logits. */
static void try_cuts(slm_model *model, const float expected[VOCAB]) {
    float found[VOCAB];
    slm_session *session = open_session(model), *fork = NULL;
    for (int i = 0; i < TOKENS; i++) EXPECT(run(session, i, i + 1, found) == SLM_OK);
    EXPECT(memcmp(found, expected, sizeof found) == 0);
    end_session(session);
    session = open_session(model);
    EXPECT(run(session, 0, 300, found) == SLM_OK);
    EXPECT(slm_session_fork(session, &fork) == SLM_OK);
    EXPECT(slm_session_truncate(fork, 280) == SLM_OK);
    EXPECT(run(fork, 280, 301, found) == SLM_OK && run(fork, 301, TOKENS, found) == SLM_OK);
    EXPECT(memcmp(found, expected, sizeof found) == 0);
    EXPECT(run(session, 300, TOKENS, found) == SLM_OK);
    EXPECT(memcmp(found, expected, sizeof found) == 0);
    end_session(fork);
    end_session(session);
}

typedef struct caller {
    slm_thread thread;
    slm_model *model;
    const float *expected;
    slm_session *session;
    enum slm_status status;
} caller;

static void call(void *argument) {
    caller *self = argument;
    float found[VOCAB];
    for (int i = 0; i < 8; i++) {
        slm_session *session = open_session(self->model);
        EXPECT(run(session, 0, TOKENS, found) == SLM_OK);
        EXPECT(memcmp(found, self->expected, sizeof found) == 0);
        end_session(session);
    }
}

static void start(caller *self) {
    self->thread.argument = self;
    EXPECT(slm_thread_start(&self->thread));
}

/* Several threads that want the same model. */
static void try_callers(slm_model *model, const float *expected) {
    caller callers[4];
    for (int i = 0; i < 4; i++) {
        callers[i] = (caller){.thread = {.run = call}, .model = model, .expected = expected};
        start(callers + i);
    }
    for (int i = 0; i < 4; i++) slm_thread_join(&callers[i].thread);
}

static void run_until_cancelled(void *argument) {
    caller *self = argument;
    float found[VOCAB];
    while ((self->status = run(self->session, 0, TOKENS, found)) == SLM_OK) continue;
}

static void try_cancelling(slm_model *model) {
    caller caller = {.thread = {.run = run_until_cancelled}, .session = open_session(model)};
    start(&caller);
    for (int64_t since = slm_now_ns(); slm_now_ns() - since < 20000000;) continue;
    slm_session_cancel(caller.session, 1);
    slm_thread_join(&caller.thread);
    EXPECT(caller.status == SLM_CANCELLED);
    end_session(caller.session);
}

static void try_bandwidth(const slm_kernels *kernels) {
    const int64_t count = 1 << 20;
    uint64_t *words = slm_alloc_aligned((size_t)count * sizeof *words), sum = 0;
    EXPECT(words != NULL);
    for (int64_t i = 0; i < count; i++) sum += words[i] = (uint64_t)next() << 40;
    slm_bandwidth bandwidth;
    EXPECT(slm_read_bandwidth(kernels, words, count, 2, 3, &bandwidth) == SLM_OK);
    EXPECT(bandwidth.sum == 3 * sum && bandwidth.bytes_per_s > 0);
    slm_free_aligned(words);
}

/* Keeps and prints what `ref` found; what another set found must be near it. */
static void compare(int isa, int32_t format, const float logits[VOCAB]) {
    static float kept[SLM_FORMAT_COUNT][VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        if (isa == SLM_ISA_REF) printf("%.6f\n", kept[format][i] = logits[i]);
        EXPECT(fabsf(logits[i] - kept[format][i]) < 1e-4f);
    }
    fprintf(stderr, "%s passes with a cache of format %d\n", slm_isa_name(isa), (int)format);
}

static void try_kernels(int isa, int32_t kv_format) {
    slm_kernels kernels;
    slm_kernels_fill(isa, &kernels);
    float expected[VOCAB];
    for (int threads = 1; threads <= 3; threads++) {
        float found[VOCAB];
        slm_model *model = open_model(&kernels, threads, kv_format);
        slm_session *session = open_session(model);
        EXPECT(run(session, 0, TOKENS, threads == 1 ? expected : found) == SLM_OK);
        end_session(session);
        EXPECT(threads == 1 || memcmp(found, expected, sizeof found) == 0);
        if (threads == 2) try_cuts(model, expected), try_callers(model, expected), try_cancelling(model);
        end_model(model);
    }
    for (int i = 0; i < 200; i++) end_model(open_model(&kernels, 3, kv_format));
    try_bandwidth(&kernels);
    compare(isa, kv_format, expected);
}

int main(void) {
    make_weights();
    for (int i = 0; i < TOKENS; i++) ids[i] = (int32_t)(next() % VOCAB);
    for (int isa = 0; isa < SLM_ISA_COUNT; isa++) {
        int found;
        if (slm_isa_find(slm_isa_name(isa), &found) != SLM_ISA_USABLE) continue;
        try_kernels(isa, SLM_F16);
        try_kernels(isa, SLM_Q8);
    }
    return 0;
}
