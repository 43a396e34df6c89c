#include "engine.h"

#include <stdlib.h>

#include "run.h"
#include "session.h"
#include "system.h"

struct slm_model {
    slm_mutex lock;
    slm_condition freed;
    int busy; /* somebody has the turn: by `lock`, which is held for moments only */
    int64_t owner;
    int closed;
    slm_runner runner;
};

/* Takes the turn, unless this is a forked child: its copy of the turn may be held by a thread that does not exist here. */
static enum slm_status enter(slm_model *model) {
    if (model->owner != slm_process()) return SLM_FORKED;
    slm_mutex_lock(&model->lock);
    while (model->busy) slm_condition_wait(&model->freed, &model->lock);
    model->busy = 1;
    slm_mutex_unlock(&model->lock);
    return SLM_OK;
}

static void leave(slm_model *model) {
    slm_mutex_lock(&model->lock);
    model->busy = 0;
    slm_mutex_unlock(&model->lock);
    slm_condition_wake_one(&model->freed);
}

/* Takes the turn if it becomes free soon. */
static int try_enter(slm_model *model) {
    slm_mutex_lock(&model->lock);
    while (model->busy && slm_condition_wait_ns(&model->freed, &model->lock, SLM_WATCH_NS)) continue;
    int free = !model->busy;
    if (free) model->busy = 1;
    slm_mutex_unlock(&model->lock);
    return free;
}

static enum slm_status check_open(slm_session *session) {
    if (!session->closed && !session->model->closed) return SLM_OK;
    leave(session->model);
    return SLM_CLOSED;
}

static enum slm_status enter_session(slm_session *session) {
    enum slm_status status = enter(session->model);
    return status ? status : check_open(session);
}

/* The same for a run, but gives up where it is to stop. */
static enum slm_status enter_run(const slm_segment *segments, int64_t count, slm_watch *watch) {
    slm_model *model = segments->session->model;
    for (int64_t i = 1; i < count; i++)
        if (segments[i].session->model != model) return SLM_BAD_SESSION;
    if (model->owner != slm_process()) return SLM_FORKED;
    while (!try_enter(model))
        if (slm_any_cancelled(segments, count) || slm_watch_stops(watch)) return SLM_CANCELLED;
    for (int64_t i = 0; i < count; i++) {
        enum slm_status status = check_open(segments[i].session);
        if (status) return status;
    }
    return SLM_OK;
}

enum slm_status slm_model_open(slm_program *program, const slm_kernels *kernels, int threads, slm_model **out) {
    slm_model *model = calloc(1, sizeof *model);
    if (!model) return SLM_NO_MEMORY;
    enum slm_status status = slm_runner_open(&model->runner, program, kernels, threads);
    if (status) {
        free(model);
        return status;
    }
    slm_mutex_open(&model->lock);
    slm_condition_open(&model->freed);
    model->owner = slm_process();
    *out = model;
    return SLM_OK;
}

void slm_model_close(slm_model *model) {
    if (enter(model)) return;
    if (!model->closed) slm_runner_close(&model->runner);
    model->closed = 1;
    leave(model);
}

void slm_model_free(slm_model *model) {
    if (!model) return;
    if (!model->closed) slm_runner_close(&model->runner);
    if (model->owner == slm_process()) {
        slm_condition_close(&model->freed);
        slm_mutex_close(&model->lock);
    }
    free(model);
}

enum slm_status slm_model_memory(slm_model *model, int64_t tokens, slm_memory *memory) {
    enum slm_status status = enter(model);
    if (status) return status;
    if (model->closed) status = SLM_CLOSED;
    else *memory = (slm_memory){model->runner.bytes, slm_kv_bytes(&model->runner.program, tokens)};
    leave(model);
    return status;
}

enum slm_status slm_session_open(slm_model *model, slm_session **out) {
    enum slm_status status = enter(model);
    if (status) return status;
    slm_session *session = NULL;
    if (model->closed) status = SLM_CLOSED;
    else if (!(session = calloc(1, sizeof *session))) status = SLM_NO_MEMORY;
    else status = slm_kv_init(&session->kv, &model->runner.program);
    leave(model);
    if (status) {
        free(session);
        return status;
    }
    session->model = model;
    *out = session;
    return SLM_OK;
}

void slm_session_close(slm_session *session) {
    if (enter(session->model)) return;
    slm_kv_free(&session->kv);
    session->closed = 1;
    leave(session->model);
}

void slm_session_free(slm_session *session) {
    if (!session) return;
    slm_kv_free(&session->kv);
    free(session);
}

enum slm_status slm_session_fork(slm_session *session, slm_session **out) {
    slm_session *fork = NULL;
    enum slm_status status = slm_session_open(session->model, &fork);
    if (status) return status;
    status = enter_session(session);
    if (status) {
        slm_session_free(fork);
        return status;
    }
    slm_kv_fork(&session->kv, &fork->kv);
    leave(session->model);
    *out = fork;
    return SLM_OK;
}

static enum slm_status cut(slm_session *session, int64_t length) {
    return length < 0 || length > session->kv.length ? SLM_BAD_VALUE : slm_kv_truncate(&session->kv, length);
}

/* Is each session there once? */
static int are_different(const slm_segment *segments, int64_t count) {
    int different = 1;
    for (int64_t i = 0; i < count; i++) {
        different &= !segments[i].session->chosen;
        segments[i].session->chosen = 1;
    }
    for (int64_t i = 0; i < count; i++) segments[i].session->chosen = 0;
    return different;
}

enum slm_status slm_sessions_run(const slm_segment *segments, int64_t count, float *logits, slm_watch *watch) {
    slm_model *model = segments->session->model;
    enum slm_status status = enter_run(segments, count, watch);
    if (status) return status;
    if (!are_different(segments, count)) status = SLM_BAD_SESSION;
    for (int64_t i = 0; !status && i < count; i++) status = cut(segments[i].session, segments[i].start);
    if (!status) status = slm_runner_run(&model->runner, segments, count, logits, watch);
    leave(model);
    return status;
}

void slm_session_cancel(slm_session *session, int on) { atomic_store(&session->cancelled, on); }

enum slm_status slm_session_truncate(slm_session *session, int64_t length) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    status = cut(session, length);
    leave(session->model);
    return status;
}

enum slm_status slm_session_state(slm_session *session, slm_session_info *info) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    const slm_kv *kv = &session->kv;
    *info = (slm_session_info){kv->length, kv->high, slm_kv_rewindable_to(kv, kv->high)};
    leave(session->model);
    return SLM_OK;
}

/* Can a session have `length` tokens and have written `high`? */
static int state_ok(const slm_session *s, int64_t length, int64_t high) {
    return length >= slm_kv_rewindable_to(&s->kv, high) && length <= high && high <= s->model->runner.program.context;
}

enum slm_status slm_session_rows(slm_session *session, int64_t layer, int64_t length, int64_t high, int64_t *rows) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    if (layer < 0 || layer >= session->kv.n_caches || !state_ok(session, length, high)) status = SLM_BAD_VALUE;
    else *rows = slm_kv_rows(session->kv.caches + layer, length, high);
    leave(session->model);
    return status;
}

enum slm_status slm_session_read(slm_session *session, int64_t layer, const slm_kv_arrays *to) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    if (layer < 0 || layer >= session->kv.n_caches) status = SLM_BAD_VALUE;
    else slm_kv_read(&session->kv, layer, to);
    leave(session->model);
    return status;
}

enum slm_status slm_session_restore(slm_session *session, int64_t length, int64_t high) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    int empty = session->kv.length == 0 && session->kv.high == 0;
    status = empty && state_ok(session, length, high) ? slm_kv_restore(&session->kv, length, high) : SLM_BAD_VALUE;
    leave(session->model);
    return status;
}

enum slm_status slm_session_write(slm_session *session, int64_t layer, const slm_kv_arrays *from) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    if (layer < 0 || layer >= session->kv.n_caches) status = SLM_BAD_VALUE;
    else slm_kv_write(&session->kv, layer, from);
    leave(session->model);
    return status;
}
