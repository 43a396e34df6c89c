/* What this CPU, and the operating system on it, can run. */
#ifndef SLM_CPU_H
#define SLM_CPU_H

/* The highest slm_isa that may be executed here. */
int slm_cpu_isa(void);

#endif
