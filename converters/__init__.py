"""The workstation's half of edgeslm: checkpoints in, verified bundles out. Needs the extra ``[convert]``.

Imported as ``edgeslm.converters``. Heavy libraries are imported inside the functions that use them.
"""
