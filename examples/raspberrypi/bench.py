"""Predicted and measured, side by side: what ``edgeslm plan`` says of this board, and what ``edgeslm bench`` finds.

    python bench.py BUNDLE --device rpi5-8gb

docs/raspberrypi.md has the predictions for some models; nobody has measured them yet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

RATES = (("prefill_tok_s", "prompt, tokens/s"), ("decode_tok_s", "text, tokens/s"))


def edgeslm(*arguments: str) -> dict[str, Any]:
    """The JSON object that a command prints; its message and the end of the program where it fails."""
    done = subprocess.run([sys.executable, "-m", "edgeslm", *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--device", default="rpi5-8gb", help="a name that edgeslm plan knows")
    parser.add_argument("-p", default="256", help="tokens of the prompt")
    arguments = parser.parse_args()
    predicted = edgeslm("plan", arguments.bundle, "--device", arguments.device, "-p", arguments.p)
    measured = edgeslm("bench", arguments.bundle, "-p", arguments.p, "-n", "64")
    print(f"{'':18} {'predicted':>10} {'measured':>10}")
    for key, words in RATES:
        print(f"{words:18} {predicted[key]:10.1f} {measured[key]:10.1f}")


if __name__ == "__main__":
    main()
