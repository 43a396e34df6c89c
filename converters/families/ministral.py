"""Ministral 8B: a Mistral whose ``layer_types`` say which layers have the window."""

from edgeslm.converters.families.mistral import read_spec, stored_weights

__all__ = ["read_spec", "stored_weights"]
