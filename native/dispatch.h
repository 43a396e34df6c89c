/* Which kernels run: a table per instruction set, filled from kernels.def in rising order, so that no slot is ever missing.
 *
 * The environment variable EDGESLM_ISA names the highest set to use (for tests); unset or empty, it is the highest that the CPU has.
 */
#ifndef SLM_DISPATCH_H
#define SLM_DISPATCH_H

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define SLM_X86 1
#else
#define SLM_X86 0
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
#define SLM_ARM 1
#else
#define SLM_ARM 0
#endif

enum slm_isa_status {
    SLM_ISA_USABLE,
    SLM_ISA_UNKNOWN,   /* no instruction set of that name */
    SLM_ISA_NOT_BUILT, /* known, but this build has no kernels for it */
    SLM_ISA_NO_CPU     /* built, but this CPU or operating system lacks it */
};

/* One row of kernels.def; format is "any" for ops without one. */
typedef struct slm_kernel_row {
    const char *op, *format;
    int isa;
} slm_kernel_row;

/* The rows of this build, in order; *count receives how many. */
const slm_kernel_row *slm_kernel_rows(int *count);

/* "ref", "avx2", "neon", …; NULL outside 0..SLM_ISA_COUNT-1. */
const char *slm_isa_name(int isa);

/* The set of that name into *isa (untouched where unknown), and whether it can be used here. */
enum slm_isa_status slm_isa_find(const char *name, int *isa);

/* The set that EDGESLM_ISA and the CPU settle on, once per process, into *isa. Thread-safe. */
enum slm_isa_status slm_isa_active(int *isa);

/* The best kernels up to `isa`, which must be usable here. */
void slm_kernels_fill(int isa, slm_kernels *table);

/* The kernels of the active set; NULL where slm_isa_active is not SLM_ISA_USABLE. Thread-safe. */
const slm_kernels *slm_kernels_get(void);

#endif
