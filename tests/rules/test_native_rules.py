"""What native/ promises: names that follow the manifest, headers that stand alone, no printing, no exiting."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
OTHER_FOLDER = "x86" if os.uname().machine in {"aarch64", "arm64"} else "arm"
SOURCES = sorted(p for p in NATIVE.rglob("*.c") if p.parent.name != OTHER_FOLDER)
HEADERS = sorted(NATIVE.glob("*.h"))  # those below belong to one instruction set, or are templates
INTERNAL = {"run.h", "pass.h", "session.h"}  # of the engine and its runner alone, with C11's atomics
ROW = re.compile(r"^K\((\w+), *(\w+), *(\w+)\)", re.MULTILINE)
ISA_FLAGS = {
    "ref": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avxvnni": ["-mavx2", "-mfma", "-mf16c", "-mavxvnni"],
    "avx512vl": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c"],
    "dotprod": ["-march=armv8.2-a+dotprod"],
    "i8mm": ["-march=armv8.2-a+dotprod+i8mm"],
}


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing; CI must have it")
        pytest.skip(f"{name} is not installed")
    return path


def kernel_names() -> set[str]:
    rows = ROW.findall((NATIVE / "kernels.def").read_text())
    assert len(rows) > 15
    return {f"slm_{op}_{isa}" if fmt == "any" else f"slm_{op}_{fmt}_{isa}" for op, fmt, isa in rows}


def test_each_kernel_of_the_manifest_has_its_file_and_no_other_is_there() -> None:
    in_files: set[str] = set()
    for folder in ("ref", "x86", "arm"):
        for path in (NATIVE / folder).glob("*.c"):
            defined = set(re.findall(r"^(?:void|float) (slm_\w+)\(", path.read_text(), re.MULTILINE))
            assert defined == {f"slm_{path.stem}"}, path
            in_files |= defined
    assert in_files == kernel_names()


def test_every_operation_has_a_reference_kernel() -> None:
    names = kernel_names()
    for name in names:
        assert re.sub(r"_[a-z0-9]+$", "_ref", name) in names


@pytest.mark.parametrize("header", HEADERS, ids=[h.name for h in HEADERS])
@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_each_header_compiles_alone(header: Path, language: str, tmp_path: Path) -> None:
    if language == "c++17" and header.name in INTERNAL:
        return
    main = tmp_path / ("main.c" if language == "c11" else "main.cc")
    main.write_text(f'#include "{header.name}"\n')
    compiler = tool("gcc" if language == "c11" else "g++")
    command = [compiler, f"-std={language}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{NATIVE}", str(main)]
    subprocess.run(command, check=True)


def test_the_program_for_other_systems_compiles() -> None:
    program = Path(__file__).parents[1] / "portable" / "core.c"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{NATIVE}"]
    subprocess.run([tool("gcc"), *flags, str(program)], check=True)


def isa_of(path: Path) -> str:
    return next((isa for isa in ISA_FLAGS if path.stem.endswith(f"_{isa}")), "ref")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("objects")
    made = []
    for source in SOURCES:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        flags = ["-std=c11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", *ISA_FLAGS[isa_of(source)]]
        subprocess.run([tool("gcc"), *flags, f"-I{NATIVE}", "-c", str(source), "-o", str(target)], check=True)
        made.append(target)
    return made


def test_the_library_neither_prints_nor_exits(objects: list[Path]) -> None:
    forbidden = re.compile(
        r"\b(abort|exit|_exit|printf|fprintf|puts|putchar|perror|assert_fail|__assert_fail|stderr|stdout)$"
    )
    for path in objects:
        undefined = subprocess.run([tool("nm"), "-u", str(path)], check=True, capture_output=True, text=True).stdout
        bad = [line for line in undefined.splitlines() if forbidden.search(line.strip())]
        assert not bad, (path.name, bad)


def test_baseline_objects_use_no_vector_extension(objects: list[Path]) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x86 only")
    for path in objects:
        if path.stem.endswith(("_avx2", "_avxvnni", "_avx512vl", "_avx512")):
            continue
        listing = subprocess.run([tool("objdump"), "-d", str(path)], check=True, capture_output=True, text=True).stdout
        assert not re.search(r"%[yz]mm\d", listing), path.name
