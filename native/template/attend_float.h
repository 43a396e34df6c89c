/* Scores and weighted sums over rows of f32 or f16, behind template/attend.h. The including file also defines LOAD_HALF(p): LANES
 * halves as floats. */

enum { TOGETHER = 4 }; /* queries that share the loads of keys and values */

/* out[h] = sum over steps of panel (steps, SLM_KV_LANES) times x[h][step]. */
INLINE void dot_panel(const char *panel, int half, int64_t steps, const float *x, int64_t stride, int heads, VEC (*out)[VECTORS]) {
    VEC acc[TOGETHER][VECTORS];
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS; v++) acc[h][v] = ZERO();
    for (int64_t i = 0; i < steps; i++) {
        VEC row[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            int64_t at = i * SLM_KV_LANES + v * LANES;
            row[v] = half ? LOAD_HALF((const uint16_t *)(const void *)panel + at) : LOAD((const float *)(const void *)panel + at);
        }
        for (int h = 0; h < heads; h++)
            for (int v = 0; v < VECTORS; v++) acc[h][v] = FMA_SCALAR(acc[h][v], row[v], x[h * stride + i]);
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS; v++) out[h][v] = acc[h][v];
}

/* out[h * out_stride] (SLM_KV_LANES) of all queries. */
INLINE void dot_all(const char *panel, int half, int64_t steps, const float *x, int64_t stride, int64_t n_q, float *out,
                    int64_t out_stride) {
    for (int64_t h = 0; h < n_q; h += TOGETHER, x += TOGETHER * stride) {
        VEC sums[TOGETHER][VECTORS];
        int heads = n_q - h < TOGETHER ? (int)(n_q - h) : TOGETHER;
        switch (heads) {
            case 1: dot_panel(panel, half, steps, x, stride, 1, sums); break;
            case 2: dot_panel(panel, half, steps, x, stride, 2, sums); break;
            case 3: dot_panel(panel, half, steps, x, stride, 3, sums); break;
            default: dot_panel(panel, half, steps, x, stride, TOGETHER, sums);
        }
        for (int i = 0; i < heads; i++)
            for (int v = 0; v < VECTORS; v++) STORE(out + (h + i) * out_stride + v * LANES, sums[i][v]);
    }
}

INLINE void score_float(const slm_attend *a, int half, slm_seen all, float *scores) {
    int64_t width = slm_kv_width(a->d), value_bytes = half ? 2 : 4;
    for (int64_t j = all.first; j < all.stop; j += SLM_KV_LANES) {
        fetch(a->rows.values, j * width * value_bytes, SLM_KV_LANES * width * value_bytes);
        dot_all((const char *)a->rows.keys + j * width * value_bytes, half, a->d, a->q, width, a->n_q, scores + j, SLM_KV_BLOCK);
    }
}

INLINE void gather_float(const slm_attend *a, int half, slm_seen any, const float *weights) {
    int64_t width = slm_kv_width(a->d), value_bytes = half ? 2 : 4;
    for (int64_t i = 0; i < a->d; i += SLM_KV_LANES)
        dot_all((const char *)a->rows.values + (i * SLM_KV_BLOCK + any.first * SLM_KV_LANES) * value_bytes, half,
                any.stop - any.first, weights + any.first, SLM_KV_BLOCK, a->n_q, a->acc + i, width);
}
