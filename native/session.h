/* A session from within: what the engine and the runner share of it. */
#ifndef SLM_SESSION_H
#define SLM_SESSION_H

#include <stdatomic.h>

#include "engine.h"
#include "kv.h"

struct slm_session {
    slm_model *model;
    int closed;
    int chosen; /* by a run that is about to begin */
    slm_kv kv;
    atomic_int cancelled;
};

#endif
