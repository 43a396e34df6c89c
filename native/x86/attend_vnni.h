/* Dot products of unsigned with signed bytes for the attend_q8 kernels. A query is the byte q + 128, and what 128 adds is taken off at the
 * end; a weight is 256 * high + low, and the four high bytes of a quad lie behind its four low ones. The including file also defines
 *
 *     INTS                      a vector of int32, for two of which there are values in a slice of TILE_PANELS panels
 *     VALUE_VECTORS             of a slice at once, 1 or 2
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

enum { TURN = SLM_RUNS / TILE_PANELS }; /* slices for which each run is asked for a line */

/* Two vectors share the loads of x, which are as many as the core can do beside the products of one. */
INLINE void dot_keys(const slm_panel_call *c, int heads, VEC (*out)[2]) {
    const int8_t *one = c->panel, *two = second_of(c);
    INTS first[KEY_HEADS], second[KEY_HEADS], first_excess = ZERO_INTS(), second_excess = ZERO_INTS();
    for (int h = 0; h < heads; h++) first[h] = second[h] = ZERO_INTS();
    for (int64_t turn = 0; turn < c->slices / TURN; turn++) {
        UNROLL(4)
        for (int64_t s = 0; s < TURN; s++) {
            int64_t i = turn * TURN + s;
            INTS a = LOAD_INTS(one + 64 * i), b = LOAD_INTS(two + 64 * i), excess = SET1_INTS((int32_t)0x80808080);
            add_products(&first_excess, excess, a);
            add_products(&second_excess, excess, b);
            UNROLL(8)
            for (int h = 0; h < heads; h++) {
                INTS times = every_quad(c->x + h * c->stride + 4 * i);
                add_products(first + h, times, a);
                add_products(second + h, times, b);
            }
            for (int p = 0; p < TILE_PANELS; p++) slm_ask(c->ahead, turn, TILE_PANELS * s + p);
        }
    }
    for (int h = 0; h < heads; h++) {
        out[h][0] = TO_FLOATS(SUB_INTS(first[h], first_excess));
        out[h][1] = TO_FLOATS(SUB_INTS(second[h], second_excess));
    }
}

/* As many vectors of a slice at a time as there are sums for in the registers. */
INLINE void dot_values(const slm_panel_call *c, int heads, VEC (*out)[2]) {
    for (int v = 0; v < 2; v += VALUE_VECTORS) {
        const int8_t *one = v ? second_of(c) : c->panel, *two = second_of(c);
        INTS low[VALUE_HEADS][VALUE_VECTORS], high[VALUE_HEADS][VALUE_VECTORS];
        for (int h = 0; h < heads; h++)
            for (int n = 0; n < VALUE_VECTORS; n++) low[h][n] = high[h][n] = ZERO_INTS();
        for (int64_t turn = 0; turn < c->slices / TURN; turn++) {
            UNROLL(4)
            for (int64_t s = 0; s < TURN; s++) {
                int64_t i = turn * TURN + s;
                INTS a[2] = {LOAD_INTS(one + 64 * i), LOAD_INTS(two + 64 * i)};
                UNROLL(8)
                for (int h = 0; h < heads; h++) {
                    const uint8_t *x = c->x + h * c->stride + 8 * i;
                    INTS times = every_quad(x);
                    for (int n = 0; n < VALUE_VECTORS; n++) add_products(&low[h][n], times, a[n]);
                    times = every_quad(x + 4);
                    for (int n = 0; n < VALUE_VECTORS; n++) add_products(&high[h][n], times, a[n]);
                }
                for (int p = 0; p < TILE_PANELS && s % (2 / VALUE_VECTORS) == 0; p++) slm_ask(c->ahead, turn, TILE_PANELS * s + p + v);
            }
        }
        for (int h = 0; h < heads; h++)
            for (int n = 0; n < VALUE_VECTORS; n++) out[h][v + n] = TO_FLOATS(ADD_INTS(SHIFT_INTS_BY_8(high[h][n]), low[h][n]));
    }
}

#include "template/attend_q8.h"
