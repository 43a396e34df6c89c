#include "greedy.h"

#include <math.h>

#define LANES 16
#define BLOCK 256 /* values, whose maximum compilers find without branches */
/* Tokens of a loop, and how often it must come for the answer to have run away; as edgeslm/translation/search.py has it. */
#define MAX_PERIOD 8
#define COPIES 4

/* Of several the first. */
static int32_t likeliest(const float *logits, int64_t n) {
    float best = logits[0];
    int64_t at = 0, end = BLOCK < n ? BLOCK : n; /* the block that has it */
    for (int64_t start = 0; start < n; start += BLOCK) {
        float lanes[LANES];
        int64_t stop = start + BLOCK < n ? start + BLOCK : n, i = start;
        for (int j = 0; j < LANES; j++) lanes[j] = best;
        for (; i + LANES <= stop; i += LANES)
            for (int j = 0; j < LANES; j++) lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
        for (; i < stop; i++) lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
        float highest = best;
        for (int j = 0; j < LANES; j++) highest = lanes[j] > highest ? lanes[j] : highest;
        if (highest > best) best = highest, at = start, end = stop;
    }
    while (at < end - 1 && !(logits[at] == best)) at++;
    return (int32_t)at;
}

static void ban_repeats(float *logits, const int32_t *tokens, int64_t count) {
    for (int64_t i = 0; i + 2 < count; i++)
        if (tokens[i] == tokens[count - 2] && tokens[i + 1] == tokens[count - 1]) logits[tokens[i + 2]] = -INFINITY;
}

/* Do the last tokens repeat themselves? */
static int runs_in_circles(const int32_t *tokens, int64_t count) {
    for (int64_t period = 1; period <= MAX_PERIOD && period * COPIES <= count; period++) {
        int64_t same = 0, wanted = period * (COPIES - 1);
        while (same < wanted && tokens[count - 1 - same] == tokens[count - 1 - same - period]) same++;
        if (same == wanted) return 1;
    }
    return 0;
}

static int is_end(const slm_greedy *g, int32_t token) {
    for (int64_t i = 0; i < g->n_ends; i++)
        if (g->ends[i] == token) return 1;
    return 0;
}

static slm_segment next_segment(const slm_line *line) {
    if (!line->length) return (slm_segment){line->session, line->keep, line->prompt, line->n_prompt, 0};
    return (slm_segment){line->session, line->keep + line->n_prompt + line->length - 1, line->answer + line->length - 1, 1, 0};
}

static void take(const slm_greedy *g, slm_line *line, float *logits) {
    if (line->fresh) ban_repeats(logits, line->answer, line->length);
    int32_t token = likeliest(logits, g->vocab);
    line->score -= logf(g->kernels->exp_sum(logits, g->vocab, logits[token]));
    if (is_end(g, token)) {
        line->state = SLM_ENDED;
        return;
    }
    line->answer[line->length++] = token;
    if (line->length == line->limit || runs_in_circles(line->answer, line->length)) line->state = SLM_CUT;
}

/* Moves the lines that have ended behind the others, and counts them. */
static int64_t sort_out(slm_greedy *g) {
    int64_t before = g->count;
    for (int64_t i = 0; i < g->count;) {
        slm_line *line = g->lines[i];
        if (line->state == SLM_RUNNING) i++;
        else g->lines[i] = g->lines[--g->count], g->lines[g->count] = line;
    }
    return before - g->count;
}

enum slm_status slm_greedy_run(slm_greedy *g, int64_t wanted, slm_watch *watch) {
    int64_t ended = 0;
    while (g->count && ended < wanted) {
        for (int64_t i = 0; i < g->count; i++) g->segments[i] = next_segment(g->lines[i]);
        enum slm_status status = slm_sessions_run(g->segments, g->count, g->logits, watch);
        if (status) return status;
        if (watch->stopped) return SLM_CANCELLED; /* too late for that run, but not for the next one */
        for (int64_t i = 0; i < g->count; i++) take(g, g->lines[i], g->logits + i * g->vocab);
        ended += sort_out(g);
    }
    return SLM_OK;
}
