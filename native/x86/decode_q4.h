/* q4 for decode.h: 32 bytes are two blocks of 32, one in each half. */
enum { LOAD_BLOCKS = 2 };

static inline slm_ints dot_rows4(const uint8_t *const *rows, int64_t block, int64_t blocks, const int8_t *values) {
    slm_ints part[4];
    for (int r = 0; r < 4; r++) part[r] = slm_every_int(0);
    for (int64_t b = block; b < block + blocks; b += 2) {
        slm_ints first = slm_load_ints(values + b * 32), second = slm_load_ints(values + b * 32 + 32);
        slm_ints low = _mm256_permute2x128_si256(first, second, 0x20), high = _mm256_permute2x128_si256(first, second, 0x31);
        for (int r = 0; r < 4; r++) {
            slm_ints bytes = _mm256_loadu_si256((const __m256i *)(rows[r] + b * BLOCK_BYTES));
            step(&part[r], slm_low_nibbles(bytes), low);
            step(&part[r], slm_high_nibbles(bytes), high);
        }
    }
    for (int r = 0; r < 4; r++) part[r] = finish(slm_every_int(0), part[r]);
    return slm_sum_rows4(part);
}
