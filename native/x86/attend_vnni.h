/* Dot products of unsigned with signed bytes for the attend_q8 kernels. A query is the byte q + 128, and what 128 adds is taken off at the
 * end; a weight is 256 * high + low, whose high bytes are SLM_KV_BLOCK bytes behind the low ones. The including file also defines
 *
 *     INTS                      a vector of int32, for two of which there are values in a slice of TILE_PANELS panels
 *     ASK(p)                    prefetch
 *     ZERO_INTS(), LOAD_INTS(p), SET1_INTS(x), SUB_INTS(a, b), SHIFT_INTS_BY_8(a), ADD_INTS(a, b), TO_FLOATS(a)
 *     add_products(sum, u, s)   adds the products of neighbouring unsigned with signed bytes to sum
 */

/* Four neighbouring bytes, in each lane. */
INLINE INTS every_quad(const uint8_t *x) {
    int32_t quad;
    memcpy(&quad, x, sizeof quad);
    return SET1_INTS(quad);
}

/* The second vector of a slice; a lone panel is its own. */
INLINE const int8_t *second_of(const slm_panel_call *c) {
    if (TILE_PANELS == 1) return c->panel + sizeof(INTS);
    return c->panel + (c->panels == 1 ? 0 : c->panel_bytes);
}

INLINE void ask_ahead(const slm_panel_call *c, int64_t i) {
    for (int p = 0; p < TILE_PANELS; p++) ASK(c->ahead + c->ahead_step * 2 * (TILE_PANELS * i + p));
}

/* Two vectors share the loads of x, which are as many as the core can do beside the products of one. */
INLINE void dot_keys(const slm_panel_call *c, int heads, VEC (*out)[2]) {
    const int8_t *one = c->panel, *two = second_of(c);
    INTS first[KEY_HEADS], second[KEY_HEADS], first_excess = ZERO_INTS(), second_excess = ZERO_INTS();
    for (int h = 0; h < heads; h++) first[h] = second[h] = ZERO_INTS();
    for (int64_t i = 0; i < c->slices; i++) {
        INTS a = LOAD_INTS(one + 64 * i), b = LOAD_INTS(two + 64 * i), excess = SET1_INTS((int32_t)0x80808080);
        add_products(&first_excess, excess, a);
        add_products(&second_excess, excess, b);
        UNROLL(8)
        for (int h = 0; h < heads; h++) {
            INTS times = every_quad(c->x + h * c->stride + 4 * i);
            add_products(first + h, times, a);
            add_products(second + h, times, b);
        }
        ask_ahead(c, i);
    }
    for (int h = 0; h < heads; h++) {
        out[h][0] = TO_FLOATS(SUB_INTS(first[h], first_excess));
        out[h][1] = TO_FLOATS(SUB_INTS(second[h], second_excess));
    }
}

/* A vector of a slice at a time, which is as many sums as two of keys. */
INLINE void dot_values(const slm_panel_call *c, int heads, VEC (*out)[2]) {
    for (int v = 0; v < 2; v++) {
        const int8_t *panel = v ? second_of(c) : c->panel;
        const char *ahead = c->ahead + v * c->slices * TILE_PANELS * c->ahead_step;
        INTS low[VALUE_HEADS], high[VALUE_HEADS];
        for (int h = 0; h < heads; h++) low[h] = high[h] = ZERO_INTS();
        for (int64_t i = 0; i < c->slices; i++) {
            INTS a = LOAD_INTS(panel + 64 * i);
            UNROLL(8)
            for (int h = 0; h < heads; h++) {
                const uint8_t *x = c->x + h * c->stride + 4 * i;
                add_products(low + h, every_quad(x), a);
                add_products(high + h, every_quad(x + SLM_KV_BLOCK), a);
            }
            ASK(ahead + c->ahead_step * TILE_PANELS * i);
        }
        for (int h = 0; h < heads; h++) out[h][v] = TO_FLOATS(ADD_INTS(SHIFT_INTS_BY_8(high[h]), low[h]));
    }
}

#include "template/attend_q8.h"
