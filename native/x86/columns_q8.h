/* q8 for columns.h: as_used(v) makes of bytes as stored (zero point 128) what step() multiplies. */
enum { BLOCK_BYTES = 32 };

static inline void load32(const uint8_t *const *rows, int64_t block, slm_ints w[8]) {
    slm_columns(rows, block * BLOCK_BYTES, w);
    slm_columns(rows, block * BLOCK_BYTES + 16, w + 4);
    for (int c = 0; c < 8; c++) w[c] = as_used(w[c]);
}
