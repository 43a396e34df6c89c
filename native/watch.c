#include "watch.h"

#include "system.h"

int slm_watch_stops(slm_watch *watch) {
    if (!watch->poll || watch->stopped) return watch->stopped;
    int64_t now = slm_now_ns();
    if (now < watch->next_ns) return 0;
    watch->next_ns = now + SLM_WATCH_NS;
    return watch->stopped = watch->poll(watch->context);
}
