"""The workstation's half of edgeslm: checkpoints in, verified bundles out."""
