/* CPU detection. CPUID tells what the core has; XGETBV tells which registers the operating system saves across task switches,
 * without which the instructions fault (Intel SDM volume 1, 14.3 and 15.2). One section per architecture. */
#include "cpu.h"

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <stdint.h>
#ifdef _MSC_VER
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, 0); }
static uint64_t xgetbv(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) { __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]); }
static uint64_t xgetbv(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  /* the intrinsic would need -mxsave */
    return (uint64_t)high << 32 | low;
}
#endif

enum { EAX, EBX, ECX, EDX };
#define BIT(n) (1u << (n))

static const uint32_t LEAF1_ECX_AVX2 = BIT(12) | BIT(28) | BIT(29);                       /* FMA, AVX, F16C */
static const uint32_t LEAF7_EBX_AVX2 = BIT(5);                                            /* AVX2 */
static const uint64_t XCR0_AVX2 = 0x6;                                                    /* xmm, ymm */

static int has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

int slm_cpu_isa(void) {
    uint32_t leaf0[4], leaf1[4], leaf7[4];
    cpuid(0, leaf0);
    if (leaf0[EAX] < 7) return SLM_ISA_REF;
    cpuid(1, leaf1);
    if (!(leaf1[ECX] & BIT(27))) return SLM_ISA_REF;  /* OSXSAVE: XGETBV may be executed */
    cpuid(7, leaf7);
    uint64_t xcr0 = xgetbv();
    if (!has(xcr0, XCR0_AVX2) || !has(leaf1[ECX], LEAF1_ECX_AVX2) || !has(leaf7[EBX], LEAF7_EBX_AVX2)) return SLM_ISA_REF;
    return SLM_ISA_AVX2;
}

#else

int slm_cpu_isa(void) { return SLM_ISA_REF; }

#endif
