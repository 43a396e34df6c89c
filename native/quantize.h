/* Quantisers of the blockwise formats, as edgeslm/formats/blockwise.py defines them; their results are the same bits. */
#ifndef SLM_QUANTIZE_H
#define SLM_QUANTIZE_H

#include <stdint.h>

/* rows (n, k) float32, finite; data (n, groups, group) for q8, (n, groups, group / 2) for q4; scales (n, groups);
 * groups = ceil(k / group), group 32, 64 or 128. */
void slm_quantize_q8(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales);
void slm_quantize_q4(const float *rows, int64_t n, int64_t k, int32_t group, uint8_t *data, float *scales);

#endif
