/* q8 for decode.h: 32 bytes are one block. */
enum { LOAD_BLOCKS = 1 };

static inline slm_ints dot_rows4(const uint8_t *const *rows, int64_t block, int64_t blocks, const int8_t *values) {
    slm_ints part[4];
    for (int r = 0; r < 4; r++) part[r] = slm_every_int(0);
    for (int64_t b = block; b < block + blocks; b++) {
        slm_ints a = slm_load_ints(values + b * 32);
        for (int r = 0; r < 4; r++) {
            slm_ints w = _mm256_loadu_si256((const __m256i *)(rows[r] + b * BLOCK_BYTES));
            step(&part[r], as_used(w), a);
        }
    }
    return slm_sum_rows4(part);
}
