"""Engines, one file each, behind :mod:`edgeslm.engines.protocol`."""
