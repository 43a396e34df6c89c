"""Weight formats: how a float32 matrix is stored. This NumPy code is the truth that kernels and exporters are held to.

A format is row-separable: every part of a tensor has one leading row per output, so a tensor may be encoded, mapped and
decoded in blocks of rows. Adding one: a subclass of :class:`Format` here, a row in ``native/kernels.def``, kernels.
"""

from edgeslm.formats.base import Format, Part, Parts
from edgeslm.formats.blockwise import GROUP_SIZES, Q4, Q8, SCALE_EXPONENTS, halve_scales, scale_exponent
from edgeslm.formats.dense import F16, F32

FORMATS: dict[str, Format] = {f.name: f for f in (F32(), F16(), Q8(), Q4())}

__all__ = [
    "F16",
    "F32",
    "FORMATS",
    "GROUP_SIZES",
    "Q4",
    "Q8",
    "SCALE_EXPONENTS",
    "Format",
    "Part",
    "Parts",
    "halve_scales",
    "scale_exponent",
]
