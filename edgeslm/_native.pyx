# cython: language_level=3
"""The native engine: models and sessions over native/engine.h, and the kernels one by one."""

include "_kernels.pxi"
include "_small_kernels.pxi"
include "_engine.pxi"
include "_greedy.pxi"
include "_bandwidth.pxi"
