/* A loaded model and its sessions: token ids in, logits out.
 *
 * Any function may be called from any thread; runs of one model are serialised by its lock. `close` frees what is large and makes
 * further calls return SLM_CLOSED; `free` ends the handle itself and is the last call on it. In a forked child of the process that
 * opened the model every call returns SLM_FORKED.
 */
#ifndef SLM_ENGINE_H
#define SLM_ENGINE_H

#include <stdint.h>

#include "program.h"

typedef struct slm_model slm_model;
typedef struct slm_session slm_session;

/* Takes over a checked program (on success *program is emptied); what its weights point to must stay until close.
 * 1 <= threads <= SLM_MAX_THREADS. */
enum slm_status slm_model_open(slm_program *program, const slm_kernels *kernels, int threads, slm_model **model);
void slm_model_close(slm_model *model);
void slm_model_free(slm_model *model);

/* An empty session. The model must be freed after it. */
enum slm_status slm_session_open(slm_model *model, slm_session **session);
void slm_session_close(slm_session *session);
void slm_session_free(slm_session *session);

/* Appends ids (n >= 1) and computes logits: of all of them (n, vocab), or of the last (1, vocab). On failure the session's length
 * is what it was. */
enum slm_status slm_session_run(slm_session *session, const int32_t *ids, int64_t n, int all_rows, float *logits);

/* Makes a run that is under way return SLM_CANCELLED soon; does nothing otherwise. Takes no lock. */
void slm_session_cancel(slm_session *session);

/* Forgets all but the first `length` tokens, 0..length held; SLM_FORGOTTEN where a window's rows are gone. */
enum slm_status slm_session_truncate(slm_session *session, int64_t length);

enum slm_status slm_session_length(slm_session *session, int64_t *length);

#endif
