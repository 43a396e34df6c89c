"""Translate English lines from the keyboard (or a pipe) to German, offline.

python translate.py ./en-de
echo "I need new shoes." | python translate.py ./en-de
"""

from __future__ import annotations

import sys

import edgeslm


def main() -> int:
    """Read lines until the end of input."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with edgeslm.load(sys.argv[1]) as model:
            for line in sys.stdin:
                if line.strip():
                    result = model.generate(f"<s><2de> {line.strip()}<sep>", max_new_tokens=128)
                    print(result.text.strip(), flush=True)
    except edgeslm.EdgeslmError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
