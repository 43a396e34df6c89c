/* Scores and weighted sums over rows of f32 or f16, behind template/attend.h. The including file also defines LOAD_HALF(p): LANES
 * halves as floats. */

enum { TOGETHER = VECTORS > 2 ? 4 : 6 }; /* queries that share the loads of keys and values, and whose sums fit the registers */

/* Sums over steps of panels (steps, SLM_KV_LANES), panel_bytes apart, times x[h][step], for all n_q queries. */
typedef struct float_call {
    const char *panel;
    int64_t panel_bytes, steps;
    const float *x;
    int64_t stride;
    float *out;
    int64_t out_stride;
    const char *ahead;
} float_call;

/* Unrolled, or gcc leaves the sums in memory. */
INLINE void dot_panels(float_call c, int half, int heads, int panels) {
    VEC sums[TOGETHER][2 * VECTORS];
    int64_t step_bytes = half ? 2 * SLM_KV_LANES : 4 * SLM_KV_LANES;
    int vectors = panels * VECTORS;
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++) sums[h][v] = ZERO();
    for (int64_t i = 0; i < c.steps; i++) {
        VEC row[2 * VECTORS];
        for (int p = 0; p < panels; p++) __builtin_prefetch(c.ahead + p * c.panel_bytes + i * step_bytes);
        for (int v = 0; v < vectors; v++) {
            const char *at = c.panel + v / VECTORS * c.panel_bytes + i * step_bytes + v % VECTORS * (step_bytes / VECTORS);
            row[v] = half ? LOAD_HALF((const uint16_t *)(const void *)at) : LOAD((const float *)(const void *)at);
        }
        UNROLL(6)
        for (int h = 0; h < heads; h++)
            for (int v = 0; v < vectors; v++) sums[h][v] = FMA_SCALAR(sums[h][v], row[v], c.x[h * c.stride + i]);
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++) STORE(c.out + h * c.out_stride + v * LANES, sums[h][v]);
}

/* In tiles of about the same size. */
INLINE void dot_panel(float_call c, int half, int64_t n_q) {
    for (int64_t tiles = (n_q + TOGETHER - 1) / TOGETHER; tiles > 0; tiles--) {
        int64_t heads = (n_q + tiles - 1) / tiles;
        if (heads == 1) dot_panels(c, half, 1, 1);
        else if (heads == 2) dot_panels(c, half, 2, 1);
        else if (heads == 3) dot_panels(c, half, 3, 1);
        else if (TOGETHER > 4 && heads == 4) dot_panels(c, half, 4, 1);
        else if (TOGETHER > 4 && heads == 5) dot_panels(c, half, 5, 1);
        else dot_panels(c, half, TOGETHER, 1);
        n_q -= heads;
        c.x += heads * c.stride;
        c.out += heads * c.out_stride;
        c.ahead = c.panel;
    }
}

/* One or two panels: two at once where the sums of one would be too few, as each waits for the one before it. */
INLINE void dot_all(float_call c, int half, int64_t n_q, int64_t panels) {
    if (panels > 1 && n_q == 1) dot_panels(c, half, 1, 2);
    else if (panels > 1 && n_q == 2) dot_panels(c, half, 2, 2);
    else
        for (; panels > 0; panels--) {
            dot_panel(c, half, n_q);
            c.panel += c.panel_bytes;
            c.ahead += c.panel_bytes;
            c.out += SLM_KV_LANES;
        }
}

INLINE void score_float(const slm_attend *a, int half, slm_seen all, float *scores) {
    int64_t width = slm_kv_width(a->d), row_bytes = width * (half ? 2 : 4);
    for (int64_t j = all.first; j < all.stop; j += 2 * SLM_KV_LANES) {
        const char *panel = (const char *)a->rows.keys + j * row_bytes, *ahead = ahead_of(a->rows.values, j * row_bytes, NULL);
        float_call call = {panel, SLM_KV_LANES * row_bytes, a->d, a->q, width, scores + j, SLM_KV_BLOCK, ahead};
        dot_all(call, half, a->n_q, j + SLM_KV_LANES < all.stop ? 2 : 1);
    }
}

/* All has been asked for. */
static slm_asking asking_of(const slm_attend *a, int64_t *further) {
    *further = 0;
    return (slm_asking){(const char *)a->q, 0, 0};
}

INLINE void gather_float(const slm_attend *a, int half, slm_seen any, const float *weights) {
    int64_t width = slm_kv_width(a->d), step_bytes = SLM_KV_LANES * (half ? 2 : 4), panel_bytes = SLM_KV_BLOCK * step_bytes;
    for (int64_t i = 0; i < width / SLM_KV_LANES; i += 2) {
        const char *panel = (const char *)a->rows.values + i * panel_bytes + any.first * step_bytes;
        float_call call = {panel, panel_bytes, any.stop - any.first, weights + any.first, SLM_KV_BLOCK, a->out.acc + i * SLM_KV_LANES, width,
                           ahead_of(a->next.keys, i * panel_bytes, panel)};
        dot_all(call, half, a->n_q, i + 1 < width / SLM_KV_LANES ? 2 : 1);
    }
}
