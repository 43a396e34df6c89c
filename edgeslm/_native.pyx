# cython: language_level=3
"""The native engine."""

include "_kernels.pxi"
