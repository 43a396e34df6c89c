#define _POSIX_C_SOURCE 200809L
#include "watch.h"

#include <time.h>

int slm_watch_stops(slm_watch *watch) {
    if (!watch->poll) return 0;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
    if (now < watch->next_ns) return 0;
    watch->next_ns = now + SLM_WATCH_NS;
    return watch->poll(watch->context);
}
