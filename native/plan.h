/* Where the values of a checked program lie, and how much scratch it needs. */
#ifndef SLM_PLAN_H
#define SLM_PLAN_H

#include "program.h"

/* Fills the planned fields. SLM_BAD_OP where an operation reads a value that none before it wrote. */
enum slm_status slm_program_plan(slm_program *program, int64_t *where);

#endif
