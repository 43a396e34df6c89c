"""LiteRT files from strangers, checked without any library: ``.tflite`` graphs and ``.litertlm`` containers."""
