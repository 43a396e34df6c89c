"""Run small language models offline, on the device: ``edgeslm.load(path)``, then ``generate`` or ``stream``."""

from edgeslm._version import __version__

__all__ = ["__version__"]
