/* Greedy decoding of several sequences at once, with nobody between two tokens. */
#ifndef SLM_GREEDY_H
#define SLM_GREEDY_H

#include "engine.h"

enum slm_line_state { SLM_RUNNING, SLM_ENDED, SLM_CUT };

/* A sequence to be continued by its likeliest tokens. */
typedef struct slm_line {
    slm_session *session;
    int64_t keep;          /* tokens to keep of those that the session holds; behind them comes */
    const int32_t *prompt; /* (n_prompt), at least 1 */
    int64_t n_prompt;
    int32_t *answer;       /* (limit), at least 1 */
    int64_t limit;
    int64_t length;        /* of the answer so far */
    double score;          /* logarithm of its probability, with that of its end */
    int fresh;             /* no three tokens in a row twice */
    int state;             /* SLM_ENDED by one of the ends, which is not part of the answer; SLM_CUT at the limit, or in a loop */
} slm_line;

typedef struct slm_greedy {
    slm_line **lines; /* (count) of sessions of one model */
    int64_t count;
    const int32_t *ends; /* (n_ends): tokens that end an answer */
    int64_t n_ends, vocab;
    const slm_kernels *kernels;
    slm_segment *segments; /* (count), and */
    float *logits;         /* (count, vocab): room to work in */
} slm_greedy;

/* Goes on until at least `wanted` of the lines have come to an end. Those are then at the end of `lines`; count is of the others. After
 * a failure, which is as of slm_sessions_run, the answers are of no use. */
enum slm_status slm_greedy_run(slm_greedy *greedy, int64_t wanted, slm_watch *watch);

#endif
