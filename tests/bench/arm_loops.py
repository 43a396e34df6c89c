"""Instructions and estimated cycles per multiply-add of the inner loops of ARM code, without ARM hardware.

    python tests/bench/arm_loops.py OBJECT_OR_LIBRARY... [--mcpu neoverse-n1 cortex-a76] [--function linear]

Disassembles, finds the loops that multiply and add, and lets llvm-mca simulate them: over whole groups of blockwise
kernels (the smallest loops that also convert sums to float, 4 results an instruction; a loop inside counts once, as it
runs at groups of 32), and over the inputs of float kernels and of attention. Cycles are those of LLVM's model for a
loop that runs from the first-level cache: they compare loops, not machines.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

# Multiply-adds of one instruction.
INTEGER = {"smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8, "sdot": 16, "usdot": 16, "smmla": 32, "usmmla": 32}
FLOAT = {"fmla": 4}
MIN_PRODUCTS = 64  # of an iteration: tails are left out
ITERATIONS = 200
EXTENSIONS = "+dotprod,+i8mm"


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        if not re.fullmatch(r"b(\.\w+)?|cbn?z|tbn?z", self.name):
            return None
        found = re.search(r"([0-9a-f]+) <", self.operands)
        return int(found[1], 16) if found else None

    @property
    def assembly(self) -> str:
        operands = self.operands.split("//")[0]
        return f"{self.name} " + (re.sub(r"[0-9a-f]+ <.*>", ".L", operands) if self.target is not None else operands)


@dataclass(frozen=True)
class Loop:
    function: str
    body: list[Instruction]

    def count(self, of: dict[str, int]) -> int:
        return sum(of.get(i.name, 0) for i in self.body)

    @property
    def products(self) -> int:
        """Multiply-adds; the scaling of integer sums is none of them."""
        return self.count(INTEGER) or self.count(FLOAT)

    @property
    def results(self) -> int:
        """Sums of whole groups that become floats in one iteration."""
        return self.count({"scvtf": 4})

    @property
    def is_measured(self) -> bool:
        if self.count(INTEGER) and self.function not in ("score", "gather"):
            return self.products >= MIN_PRODUCTS and self.results > 0
        return self.products >= MIN_PRODUCTS and sum(i.target is not None for i in self.body) == 1

    def cycles(self, mcpu: str) -> float | None:
        """Of one iteration; None where the model lacks an instruction."""
        text = "\n".join([".L:", *(i.assembly for i in self.body)])
        command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={mcpu}", f"-mattr={EXTENSIONS}"]
        command.append(f"-iterations={ITERATIONS}")
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        found = re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.MULTILINE)
        return int(found[1]) / ITERATIONS if found else None


def functions(path: str) -> Iterator[tuple[str, list[Instruction]]]:
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for block in re.split(r"\n(?=[0-9a-f]+ <)", listing):
        name = re.match(r"[0-9a-f]+ <(\S+)>:", block)
        lines = re.findall(r"^ *([0-9a-f]+):\t(\S+)(?:\t(.*))?$", block, re.MULTILINE)
        if name:
            yield name[1], [Instruction(int(address, 16), op, operands) for address, op, operands in lines]


def measured_loops(function: str, code: list[Instruction]) -> Iterator[Loop]:
    """The smallest ones."""
    place = {instruction.address: i for i, instruction in enumerate(code)}
    spans = [(place[i.target], end) for end, i in enumerate(code) if i.target in place and place[i.target] <= end]
    loops = {(start, end): Loop(function, code[start : end + 1]) for start, end in spans}
    loops = {span: loop for span, loop in loops.items() if loop.is_measured}
    for (start, end), loop in loops.items():
        if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in loops):
            yield loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="objects, static or shared libraries")
    parser.add_argument("--mcpu", nargs="+", default=["neoverse-n1"])
    parser.add_argument("--function", default="", help="regular expression")
    args = parser.parse_args()
    columns = ["function", "multiply-adds", "results", "group", "instructions", *args.mcpu]
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    for path in args.files:
        for name, code in functions(path):
            for loop in measured_loops(name, code) if re.search(args.function, name) else ():
                results, group = loop.results or "-", loop.products // loop.results if loop.results else "-"
                cycles = [loop.cycles(mcpu) for mcpu in args.mcpu]
                shown = [f"{x / loop.products:.3f}" if x else "-" for x in (len(loop.body), *cycles)]
                print("|", " | ".join([name, str(loop.products), str(results), str(group), *shown]), "|", flush=True)


if __name__ == "__main__":
    main()
