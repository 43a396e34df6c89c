/* Sets with a dot product of four unsigned by four signed bytes: weights are used as stored, and sums need no more width. */
enum { USE_CORRECTIONS = 1, AHEAD_BYTES = 12 << 10 };

static inline void step(slm_ints *part, slm_ints w, slm_ints a);

static inline slm_ints as_used(slm_ints q) { return q; }
static inline slm_ints start(slm_ints sums, slm_ints w, slm_ints a) {
    step(&sums, w, a);
    return sums;
}
static inline slm_ints finish(slm_ints sums, slm_ints part) {
    (void)sums;
    return part;
}
