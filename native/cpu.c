/* CPU detection. One section per architecture. */
#include "cpu.h"

#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

/* CPUID tells what the core has; XGETBV tells which registers the operating system saves across task switches, without which the
 * instructions fault (Intel SDM volume 1, 14.3 and 15.2). */
#include <stdint.h>
#ifdef _MSC_VER
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, (int)subleaf); }
static uint64_t xgetbv(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) { __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]); }
static uint64_t xgetbv(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  /* the intrinsic would need -mxsave */
    return (uint64_t)high << 32 | low;
}
#endif

enum { EAX, EBX, ECX, EDX };
#define BIT(n) (1u << (n))

/* What each set needs beyond AVX2, and that beyond the baseline. */
typedef struct requirement {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_1_eax; /* leaf 7.1: subleaf 1 */
    uint64_t xcr0;
} requirement;

/* F, DQ, BW, VL; VNNI; mask and zmm registers saved */
#define AVX512 {0, BIT(16) | BIT(17) | BIT(30) | BIT(31), BIT(11), 0, 0xe6}

static const requirement NEEDS[] = {
    /* FMA, OSXSAVE, AVX, F16C; AVX2; xmm and ymm registers saved */
    [SLM_ISA_AVX2] = {BIT(12) | BIT(27) | BIT(28) | BIT(29), BIT(5), 0, 0, 0x06},
    [SLM_ISA_AVXVNNI] = {0, 0, 0, BIT(4), 0},
    [SLM_ISA_AVX512VL] = AVX512,
    [SLM_ISA_AVX512] = AVX512,
};

typedef struct features {
    uint32_t leaf1[4], leaf7[4], leaf7_1[4];
    uint64_t xcr0;
} features;

static int has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

static int meets(const features *f, requirement need) {
    return has(f->leaf1[ECX], need.leaf1_ecx) && has(f->leaf7[EBX], need.leaf7_ebx) && has(f->leaf7[ECX], need.leaf7_ecx) &&
           has(f->leaf7_1[EAX], need.leaf7_1_eax) && has(f->xcr0, need.xcr0);
}

unsigned slm_cpu_isas(void) {
    uint32_t leaf0[4];
    features f = {0};
    cpuid(0, 0, leaf0);
    if (leaf0[EAX] < 7) return BIT(SLM_ISA_REF);
    cpuid(1, 0, f.leaf1);
    cpuid(7, 0, f.leaf7);
    if (f.leaf7[EAX] >= 1) cpuid(7, 1, f.leaf7_1);      /* EAX of subleaf 0: the highest subleaf */
    f.xcr0 = has(f.leaf1[ECX], BIT(27)) ? xgetbv() : 0; /* OSXSAVE: XGETBV may be executed */
    unsigned isas = BIT(SLM_ISA_REF);
    if (!meets(&f, NEEDS[SLM_ISA_AVX2])) return isas;
    for (int isa = SLM_ISA_AVX2; isa <= SLM_ISA_AVX512; isa++) {
#ifdef SLM_SIMDE /* a build for tests, whose sets above AVX2 need no more than it */
        isas |= BIT(isa);
#else
        if (meets(&f, NEEDS[isa])) isas |= BIT(isa);
#endif
    }
    return isas;
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

/* NEON belongs to every 64-bit core. The kernels of i8mm use dotprod as well. */
unsigned slm_cpu_isas(void) {
    unsigned isas = 1u << SLM_ISA_REF | 1u << SLM_ISA_NEON;
    if (has_dotprod()) isas |= 1u << SLM_ISA_DOTPROD;
    if (has_dotprod() && has_i8mm()) isas |= 1u << SLM_ISA_I8MM;
    return isas;
}

#else

unsigned slm_cpu_isas(void) { return 1u << SLM_ISA_REF; }

#endif
