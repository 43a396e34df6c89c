"""Holds a wheel to its size: what it adds to a device, not counting the embedded models.

python tests/arm/check_size.py WHEEL
"""

from __future__ import annotations

import sys
from zipfile import ZipFile

LIMIT = 3_000_000  # bytes, compressed
MODELS = "edgeslm/models/"


def main() -> None:
    """Print the size; an error if it is too large."""
    with ZipFile(sys.argv[1]) as wheel:
        sizes = {entry.filename: entry.compress_size for entry in wheel.infolist()}
    models = sum(size for name, size in sizes.items() if name.startswith(MODELS))
    code = sum(sizes.values()) - models
    print(f"the wheel: {code:,} bytes, and {models:,} of embedded models")
    if code > LIMIT:
        largest = sorted(sizes, key=lambda name: -sizes[name] * (not name.startswith(MODELS)))[:5]
        sys.exit(f"that is more than {LIMIT:,} without models; the largest: {', '.join(largest)}")


if __name__ == "__main__":
    main()
