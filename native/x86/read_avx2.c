#include "template/read.h"

void slm_read_avx2(const uint64_t *words, int64_t n, uint64_t *sum) { read_words(words, n, sum); }
