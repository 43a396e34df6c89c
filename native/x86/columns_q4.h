/* q4 for columns.h: per 32 weights 16 bytes, the low nibbles of which meet the first 16 packed activations. */
enum { BLOCK_BYTES = 16 };

static inline void load32(const uint8_t *const *rows, int64_t block, slm_ints w[8]) {
    slm_ints v[4];
    slm_columns(rows, block * BLOCK_BYTES, v);
    for (int c = 0; c < 4; c++) {
        w[c] = slm_low_nibbles(v[c]);
        w[4 + c] = slm_high_nibbles(v[c]);
    }
}
