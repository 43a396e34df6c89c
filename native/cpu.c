/* CPU detection. One section per architecture. */
#include "cpu.h"

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

/* CPUID tells what the core has; XGETBV tells which registers the operating system saves across task switches, without which the
 * instructions fault (Intel SDM volume 1, 14.3 and 15.2). */
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

/* What each set needs beyond the one below it. */
typedef struct requirement {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_ecx;
    uint64_t xcr0;
} requirement;

static const requirement NEEDS[] = {
    /* FMA, OSXSAVE, AVX, F16C; AVX2; xmm and ymm registers saved */
    [SLM_ISA_AVX2] = {BIT(12) | BIT(27) | BIT(28) | BIT(29), BIT(5), 0, 0x06},
    /* F, DQ, BW, VL; VNNI; mask and zmm registers saved */
    [SLM_ISA_AVX512] = {0, BIT(16) | BIT(17) | BIT(30) | BIT(31), BIT(11), 0xe6},
};

enum { HIGHEST = SLM_ISA_AVX512 };

static int has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

int slm_cpu_isa(void) {
    uint32_t leaf0[4], leaf1[4], leaf7[4];
    cpuid(0, leaf0);
    if (leaf0[EAX] < 7) return SLM_ISA_REF;
    cpuid(1, leaf1);
    cpuid(7, leaf7);
    uint64_t xcr0 = has(leaf1[ECX], BIT(27)) ? xgetbv() : 0; /* OSXSAVE: XGETBV may be executed */
    int isa = SLM_ISA_REF;
    while (isa < HIGHEST) {
        const requirement *need = &NEEDS[isa + 1];
        if (!has(leaf1[ECX], need->leaf1_ecx) || !has(leaf7[EBX], need->leaf7_ebx)) break;
        if (!has(leaf7[ECX], need->leaf7_ecx) || !has(xcr0, need->xcr0)) break;
        isa++;
    }
#ifdef SLM_SIMDE /* a build for tests, whose sets above AVX2 need no more than it */
    if (isa == SLM_ISA_AVX2) isa = HIGHEST;
#endif
    return isa;
}

#elif defined(__aarch64__) || defined(_M_ARM64)

/* The core's features are not readable by a program: the operating system tells. */
#if defined(__linux__)
#include <sys/auxv.h>

/* HWCAP_ASIMDDP and HWCAP2_I8MM, which older headers lack. */
static int has_dotprod(void) { return (getauxval(AT_HWCAP) & 1ul << 20) != 0; }
static int has_i8mm(void) { return (getauxval(AT_HWCAP2) & 1ul << 13) != 0; }

#elif defined(__APPLE__)
#include <sys/sysctl.h>

static int has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value;
}
static int has_dotprod(void) { return has("hw.optional.arm.FEAT_DotProd"); }
static int has_i8mm(void) { return has("hw.optional.arm.FEAT_I8MM"); }

#elif defined(_WIN32)
#include <windows.h>

/* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE, which older headers lack. */
static int has_dotprod(void) { return IsProcessorFeaturePresent(43); }
static int has_i8mm(void) { return IsProcessorFeaturePresent(66); }

#else

static int has_dotprod(void) { return 0; }
static int has_i8mm(void) { return 0; }

#endif

/* NEON belongs to every 64-bit core. */
int slm_cpu_isa(void) {
    if (!has_dotprod()) return SLM_ISA_NEON;
    return has_i8mm() ? SLM_ISA_I8MM : SLM_ISA_DOTPROD;
}

#else

int slm_cpu_isa(void) { return SLM_ISA_REF; }

#endif
