#include "dispatch.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "system.h"

/* How a row of kernels.def names its function and the slot it fills. */
#define NAME_any(op, isa) slm_##op##_##isa
#define NAME_f32(op, isa) slm_##op##_f32_##isa
#define NAME_f16(op, isa) slm_##op##_f16_##isa
#define NAME_q8(op, isa) slm_##op##_q8_##isa
#define NAME_q4(op, isa) slm_##op##_q4_##isa
#define SLOT_any(op) op
#define SLOT_f32(op) op[SLM_F32]
#define SLOT_f16(op) op[SLM_F16]
#define SLOT_q8(op) op[SLM_Q8]
#define SLOT_q4(op) op[SLM_Q4]
#define ISA_ref SLM_ISA_REF
#define ISA_avx2 SLM_ISA_AVX2
#define ISA_avxvnni SLM_ISA_AVXVNNI
#define ISA_avx512vl SLM_ISA_AVX512VL
#define ISA_avx512 SLM_ISA_AVX512
#define ISA_neon SLM_ISA_NEON
#define ISA_dotprod SLM_ISA_DOTPROD
#define ISA_i8mm SLM_ISA_I8MM

#define K(op, format, isa) extern slm_##op##_fn NAME_##format(op, isa);
#include "kernels.def"
#undef K

#define K(op, format, isa) {#op, #format, ISA_##isa},
static const slm_kernel_row ROWS[] = {
#include "kernels.def"
};
#undef K

static const char *const ISA_NAMES[SLM_ISA_COUNT] = {
    [SLM_ISA_REF] = "ref",       [SLM_ISA_AVX2] = "avx2", [SLM_ISA_AVXVNNI] = "avxvnni", [SLM_ISA_AVX512VL] = "avx512vl",
    [SLM_ISA_AVX512] = "avx512", [SLM_ISA_NEON] = "neon", [SLM_ISA_DOTPROD] = "dotprod", [SLM_ISA_I8MM] = "i8mm"};

static struct {
    slm_mutex lock;
    int settled;
    enum slm_isa_status status;
    int isa;
    slm_kernels table;
} active = {.lock = SLM_MUTEX_INIT};

const slm_kernel_row *slm_kernel_rows(int *count) {
    *count = (int)(sizeof ROWS / sizeof *ROWS);
    return ROWS;
}

const char *slm_isa_name(int isa) { return isa >= 0 && isa < SLM_ISA_COUNT ? ISA_NAMES[isa] : NULL; }

static int is_built(int isa) {
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (ROWS[i].isa == isa) return 1;
    return 0;
}

enum slm_isa_status slm_isa_find(const char *name, int *isa) {
    for (int i = 0; i < SLM_ISA_COUNT; i++) {
        if (strcmp(name, ISA_NAMES[i]) != 0) continue;
        *isa = i;
        if (!is_built(i)) return SLM_ISA_NOT_BUILT;
        return slm_cpu_isas() >> i & 1 ? SLM_ISA_USABLE : SLM_ISA_NO_CPU;
    }
    return SLM_ISA_UNKNOWN;
}

void slm_kernels_fill(int isa, slm_kernels *table) {
    unsigned isas = slm_cpu_isas();
    memset(table, 0, sizeof *table);
#define K(op, format, level) \
    if (ISA_##level <= isa && isas >> ISA_##level & 1) table->SLOT_##format(op) = NAME_##format(op, level);
#include "kernels.def"
#undef K
}

static void settle(void) {
    const char *forced = getenv("EDGESLM_ISA");
    unsigned isas = slm_cpu_isas();
    for (int i = 0; i < SLM_ISA_COUNT; i++)
        if (isas >> i & 1 && is_built(i)) active.isa = i;
    if (forced && *forced) active.status = slm_isa_find(forced, &active.isa);
    if (active.status == SLM_ISA_USABLE) slm_kernels_fill(active.isa, &active.table);
    active.settled = 1;
}

enum slm_isa_status slm_isa_active(int *isa) {
    slm_mutex_lock(&active.lock);
    if (!active.settled) settle();
    slm_mutex_unlock(&active.lock);
    *isa = active.isa;
    return active.status;
}

const slm_kernels *slm_kernels_get(void) {
    int isa;
    return slm_isa_active(&isa) == SLM_ISA_USABLE ? &active.table : NULL;
}
