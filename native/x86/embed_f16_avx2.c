#include "float_avx2.h"
#include "kernels.h"

void slm_embed_f16_avx2(const slm_matrix *w, int64_t row, float scale, float *out) {
    const uint16_t *values = (const uint16_t *)w->data + row * w->k;
    __m256 s = _mm256_set1_ps(scale);
    int64_t k = 0;
    for (; k + 8 <= w->k; k += 8) _mm256_storeu_ps(out + k, _mm256_mul_ps(slm_load_half8(values + k), s));
    for (; k < w->k; k++) out[k] = _cvtsh_ss(values[k]) * scale;
}
