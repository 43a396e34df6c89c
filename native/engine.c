#define _POSIX_C_SOURCE 200809L
#include "engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "run.h"

struct slm_model {
    pthread_mutex_t lock;
    pid_t owner;
    int closed;
    slm_runner runner;
};

struct slm_session {
    slm_model *model;
    int closed;
    slm_kv kv;
    atomic_int cancelled;
};

/* Takes the lock, unless this is a forked child: its copy of the lock may be held by a thread that does not exist here. */
static enum slm_status enter(slm_model *model) {
    if (model->owner != getpid()) return SLM_FORKED;
    pthread_mutex_lock(&model->lock);
    return SLM_OK;
}

static void leave(slm_model *model) { pthread_mutex_unlock(&model->lock); }

static enum slm_status enter_session(slm_session *session) {
    enum slm_status status = enter(session->model);
    if (status) return status;
    if (!session->closed && !session->model->closed) return SLM_OK;
    leave(session->model);
    return SLM_CLOSED;
}

enum slm_status slm_model_open(slm_program *program, const slm_kernels *kernels, int threads, slm_model **out) {
    slm_model *model = calloc(1, sizeof *model);
    if (!model) return SLM_NO_MEMORY;
    enum slm_status status = slm_runner_open(&model->runner, program, kernels, threads);
    if (status) {
        free(model);
        return status;
    }
    pthread_mutex_init(&model->lock, NULL);
    model->owner = getpid();
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
    if (model->owner == getpid()) pthread_mutex_destroy(&model->lock);
    free(model);
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

enum slm_status slm_session_run(slm_session *session, const int32_t *ids, int64_t n, int all_rows, float *logits) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    atomic_store(&session->cancelled, 0);
    status = slm_runner_run(&session->model->runner, &session->kv, ids, n, all_rows, logits, &session->cancelled);
    leave(session->model);
    return status;
}

void slm_session_cancel(slm_session *session) { atomic_store(&session->cancelled, 1); }

enum slm_status slm_session_truncate(slm_session *session, int64_t length) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    status = slm_kv_truncate(&session->kv, length);
    leave(session->model);
    return status;
}

enum slm_status slm_session_length(slm_session *session, int64_t *length) {
    enum slm_status status = enter_session(session);
    if (status) return status;
    *length = session->kv.length;
    leave(session->model);
    return SLM_OK;
}
