/* What this CPU, and the operating system on it, can run. */
#ifndef SLM_CPU_H
#define SLM_CPU_H

/* Which slm_isa may be executed here: bit 1 << isa. */
unsigned slm_cpu_isas(void);

#endif
