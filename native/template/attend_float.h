/* Scores and weighted sums over rows of f32 or f16, behind template/attend.h. The including file also defines LOAD_HALF(p): LANES
 * halves as floats. */

enum { TOGETHER = VECTORS > 2 ? 4 : 6 }; /* queries that share the loads of keys and values, and whose sums fit the registers */

/* Sums over steps of a panel (steps, SLM_KV_LANES) times x[h][step], for all n_q queries. */
typedef struct float_call {
    const char *panel;
    int64_t steps;
    const float *x;
    int64_t stride;
    float *out;
    int64_t out_stride;
    const char *ahead;
} float_call;

/* Unrolled, or gcc leaves the sums in memory. */
INLINE void dot_panel(float_call c, int half, int heads) {
    VEC sums[TOGETHER][VECTORS];
    int64_t step_bytes = half ? 2 * SLM_KV_LANES : 4 * SLM_KV_LANES;
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS; v++) sums[h][v] = ZERO();
    for (int64_t i = 0; i < c.steps; i++) {
        VEC row[VECTORS];
        __builtin_prefetch(c.ahead + i * step_bytes);
        for (int v = 0; v < VECTORS; v++) {
            const char *at = c.panel + i * step_bytes + v * (step_bytes / VECTORS);
            row[v] = half ? LOAD_HALF((const uint16_t *)(const void *)at) : LOAD((const float *)(const void *)at);
        }
        UNROLL(6)
        for (int h = 0; h < heads; h++)
            for (int v = 0; v < VECTORS; v++) sums[h][v] = FMA_SCALAR(sums[h][v], row[v], c.x[h * c.stride + i]);
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS; v++) STORE(c.out + h * c.out_stride + v * LANES, sums[h][v]);
}

/* In tiles of about the same size. */
INLINE void dot_all(float_call c, int half, int64_t n_q) {
    for (int64_t tiles = (n_q + TOGETHER - 1) / TOGETHER; tiles > 0; tiles--) {
        int64_t heads = (n_q + tiles - 1) / tiles;
        if (heads == 1) dot_panel(c, half, 1);
        else if (heads == 2) dot_panel(c, half, 2);
        else if (heads == 3) dot_panel(c, half, 3);
        else if (TOGETHER > 4 && heads == 4) dot_panel(c, half, 4);
        else if (TOGETHER > 4 && heads == 5) dot_panel(c, half, 5);
        else dot_panel(c, half, TOGETHER);
        n_q -= heads;
        c.x += heads * c.stride;
        c.out += heads * c.out_stride;
        c.ahead = c.panel;
    }
}

INLINE void score_float(const slm_attend *a, int half, slm_seen all, float *scores) {
    int64_t width = slm_kv_width(a->d), value_bytes = half ? 2 : 4;
    for (int64_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        const char *panel = (const char *)a->rows.keys + j * width * value_bytes;
        float_call call = {panel, a->d, a->q, width, scores + j, SLM_KV_BLOCK, ahead_of(a->rows.values, j * width * value_bytes, NULL)};
        dot_all(call, half, a->n_q);
    }
}

INLINE void gather_float(const slm_attend *a, int half, slm_seen any, const float *weights) {
    int64_t width = slm_kv_width(a->d), value_bytes = half ? 2 : 4, panel_bytes = SLM_KV_BLOCK * SLM_KV_LANES * value_bytes;
    for (int64_t i = 0; i < width / SLM_KV_LANES; i++) {
        const char *panel = (const char *)a->rows.values + i * panel_bytes + any.first * SLM_KV_LANES * value_bytes;
        float_call call = {panel,        any.stop - any.first, weights + any.first, SLM_KV_BLOCK, a->acc + i * SLM_KV_LANES, width,
                           ahead_of(a->next.keys, i * panel_bytes, panel)};
        dot_all(call, half, a->n_q);
    }
}
