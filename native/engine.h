/* A loaded model and its sessions: token ids in, logits out.
 *
 * Any function may be called from any thread; runs of one model are serialised by its lock. `close` frees what is large and makes
 * further calls return SLM_CLOSED; `free` ends the handle itself and is the last call on it. In a forked child of the process that
 * opened the model every call returns SLM_FORKED.
 */
#ifndef SLM_ENGINE_H
#define SLM_ENGINE_H

#include <stdint.h>

#include "kv.h"
#include "watch.h"

typedef struct slm_model slm_model;
typedef struct slm_session slm_session;

/* Takes over a checked program (on success *program is emptied); what its weights point to must stay until close.
 * 1 <= threads <= SLM_MAX_THREADS. */
enum slm_status slm_model_open(slm_program *program, const slm_kernels *kernels, int threads, slm_model **model);
void slm_model_close(slm_model *model);
void slm_model_free(slm_model *model);

typedef struct slm_memory {
    size_t scratch; /* bytes of the model's rows and scratch */
    size_t kv;      /* bytes of a session of so many tokens */
} slm_memory;

/* Weights are not counted: they are the caller's. tokens >= 0. */
enum slm_status slm_model_memory(slm_model *model, int64_t tokens, slm_memory *memory);

/* An empty session. The model must be freed after it. */
enum slm_status slm_session_open(slm_model *model, slm_session **session);
void slm_session_close(slm_session *session);
void slm_session_free(slm_session *session);

/* A copy, independent of the other; memory is shared until one of them writes to it. */
enum slm_status slm_session_fork(slm_session *session, slm_session **fork);

/* What a run appends to one session. */
typedef struct slm_segment {
    slm_session *session;
    int64_t start;      /* tokens to keep of those held, 0..length */
    const int32_t *ids; /* (n) */
    int64_t n;          /* at least 1 */
    int all_rows;       /* whether logits of all ids (n, vocab) are wanted, or of the last (1, vocab) */
} slm_segment;

/* Runs count >= 1 segments of different sessions of one model in one pass over its weights; each row is what it is alone. Logits:
 * those of the segments, one behind the other. On failure a session holds what it held or the first `start` tokens of it. The calling
 * thread looks after *watch while it runs and while it waits for its turn: SLM_CANCELLED where it wants to stop, or where one of the
 * sessions is cancelled. */
enum slm_status slm_sessions_run(const slm_segment *segments, int64_t count, float *logits, slm_watch *watch);

/* While on, runs return SLM_CANCELLED as soon as they can, one under way too. Takes no lock. */
void slm_session_cancel(slm_session *session, int on);

/* Forgets all but the first `length` tokens, 0..length held; SLM_FORGOTTEN where a window's rows are gone. */
enum slm_status slm_session_truncate(slm_session *session, int64_t length);

typedef struct slm_session_info {
    int64_t length;        /* tokens held */
    int64_t high;          /* positions below were written since the session was last empty: what rings hold depends on it */
    int64_t rewindable_to; /* the smallest length above 0 that can be gone on from; above `length`, nothing but 0 can */
} slm_session_info;

enum slm_status slm_session_state(slm_session *session, slm_session_info *info);

/* Rows that a layer keeps of `length` tokens, the last ones, where `high` were written; SLM_BAD_VALUE where
 * no session can be in this state. */
enum slm_status slm_session_rows(slm_session *session, int64_t layer, int64_t length, int64_t high, int64_t *rows);

/* Copies these rows out of a session of its current length. */
enum slm_status slm_session_read(slm_session *session, int64_t layer, const slm_kv_arrays *to);

/* Makes an empty session one of `length` tokens, 1..context, that has written `high`; the rows of every layer are then to be
 * written before anything else is called. */
enum slm_status slm_session_restore(slm_session *session, int64_t length, int64_t high);
enum slm_status slm_session_write(slm_session *session, int64_t layer, const slm_kv_arrays *from);

#endif
