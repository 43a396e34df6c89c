/* Sets with a dot product of four unsigned by four signed bytes: weights are used as stored, and sums need no more width. */
enum { PARTS_ARE_SUMS = 1, USE_CORRECTIONS = 1 };

static inline slm_ints as_used(slm_ints q) { return q; }
static inline slm_ints finish(slm_ints sums, slm_ints part) {
    (void)sums;
    return part;
}
