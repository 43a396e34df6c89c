"""Holds every library of an ARM build to the instructions that its core must have.

    python tests/arm/check_instructions.py BUILD_FOLDER

What was compiled is disassembled, and assembled again for the lowest core that must run it: the assembler refuses what
that core lacks, atomic instructions (LSE) included. A set above the baseline must also be refused one step lower, or
it would be empty, and this check could not fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BASELINE = "armv8-a"
DOTPROD = "armv8.2-a+dotprod+nolse"
I8MM = "armv8.2-a+dotprod+i8mm+nolse"
ALLOWED = {
    "libslm_core.a": BASELINE,
    "libslm_ref.a": BASELINE,
    "libslm_neon.a": BASELINE,
    "libslm_dotprod.a": DOTPROD,
    "libslm_i8mm.a": I8MM,
    "_native.abi3.so": I8MM,  # holds all of them
    "_sampling.abi3.so": BASELINE,
}
TOO_LOW = {"libslm_dotprod.a": BASELINE, "libslm_i8mm.a": DOTPROD}


def disassemble(path: Path) -> str:
    """As assembly text in which every address is the instruction's own: what counts is which instructions there are."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^ *[0-9a-f]+:\t(.*)$", listing, re.MULTILINE)
    assert len(lines) > 100, f"{path}: {len(lines)} instructions"
    return "".join(re.sub(r"[0-9a-f]+ <[^>]*>", ".", line.split("//")[0]) + "\n" for line in lines)


def refusals(assembly: str, march: str) -> list[str]:
    """The assembler's complaints about instructions that `march` lacks."""
    command = ["aarch64-linux-gnu-as", f"-march={march}", "-o", "/dev/null", "-"]
    complaints = subprocess.run(command, input=assembly, capture_output=True, text=True, check=False).stderr
    return re.findall(r"Error: (.*)", complaints)


def find(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    assert len(found) == 1, f"{folder} holds {len(found)} files {name}"
    return found[0]


def main() -> int:
    failed = 0
    for name, march in ALLOWED.items():
        assembly = disassemble(find(Path(sys.argv[1]), name))
        if problems := refusals(assembly, march):
            failed = 1
            print(f"{name} does not keep to {march}:", *problems[:5], sep="\n  ")
        if (lower := TOO_LOW.get(name)) and not refusals(assembly, lower):
            failed = 1
            print(f"{name} uses nothing beyond {lower}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
