/* What a running thread looks after now and then: whether its caller wants it to stop. */
#ifndef SLM_WATCH_H
#define SLM_WATCH_H

#include <stdint.h>

#define SLM_WATCH_NS 10000000 /* between two looks: 10 ms, unnoticed by people and by throughput */

typedef struct slm_watch {
    int (*poll)(void *context); /* non-zero: stop; NULL: never */
    void *context;
    int64_t next_ns; /* start with 0 */
    int stopped;     /* poll wanted to stop; start with 0 */
} slm_watch;

/* Calls poll where the time has come, until it wants to stop; does it? */
int slm_watch_stops(slm_watch *watch);

#endif
