"""NumPy, imported when it is first used: that takes longer than to open a small model and translate a sentence with it,
and both do without. (Python 3.15 has ``lazy import`` for this, PEP 810.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        def __getattr__(self, name: str) -> Any:
            import numpy

            found = getattr(numpy, name)
            setattr(self, name, found)  # the next time this method is not asked
            return found

    np = _Numpy()

__all__ = ["np"]
