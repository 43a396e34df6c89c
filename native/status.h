/* What every function of the core that can fail returns. */
#ifndef SLM_STATUS_H
#define SLM_STATUS_H

enum slm_status {
    SLM_OK,
    SLM_NO_MEMORY,
    SLM_NO_THREADS,  /* the operating system refused a thread */
    SLM_BAD_VALUE,   /* a program's value, … */
    SLM_BAD_WEIGHT,  /* … matrix or vector, … */
    SLM_BAD_LAYER,   /* … attention layer or rope, … */
    SLM_BAD_OP,      /* … or operation is inconsistent or out of range */
    SLM_BAD_ID,      /* a token id outside the vocabulary */
    SLM_BAD_SESSION, /* a run with a session twice, or of another model */
    SLM_FULL,        /* more tokens than the context holds */
    SLM_FORGOTTEN,   /* a window's ring no longer holds the rows that going on from here needs */
    SLM_CANCELLED,
    SLM_CLOSED,      /* the session or its model was closed */
    SLM_FORKED       /* the model was opened in the parent process: its threads are not here */
};

#endif
