"""Builds the C libraries, one per instruction set with its own flags, and the Cython extensions over them.

Everything static stands in pyproject.toml. Environment:
    EDGESLM_WERROR=1     warnings in native/ are errors (CI)
    EDGESLM_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer (run Python with libasan preloaded)
    EDGESLM_PURE=1       nothing is compiled: a wheel for any machine, with the NumPy engine alone
    EDGESLM_SIMDE=1      sets above AVX2 are computed with AVX2 (tests/simde), to test them on any x86-64
"""

import os
import platform
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030b0000"  # one abi3 wheel for Python 3.11 and later
# What is built for, also when cross-building: "linux-aarch64", "macosx-11.0-arm64", "win-amd64", …
TARGET = sysconfig.get_platform()
MACHINE = platform.machine() if TARGET.endswith("universal2") else TARGET.rpartition("-")[2]
ARM = MACHINE.lower() in {"aarch64", "arm64"}
SANITIZE = bool(os.environ.get("EDGESLM_SANITIZE"))
WERROR = bool(os.environ.get("EDGESLM_WERROR"))
PURE = bool(os.environ.get("EDGESLM_PURE"))
SIMDE = bool(os.environ.get("EDGESLM_SIMDE"))
WINDOWS = TARGET.startswith("win")

sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
# No contraction: `a * b + c` must round the same in every build, or runs would depend on the compiler.
# No errno of mathematics, which nobody reads: without it square roots vectorise.
BASE = ["-ffp-contract=off", "-fno-math-errno"]
# Instrumented, or with vectors made of others, kernels would take gcc minutes to vectorise.
BASE += ["-O1" if SANITIZE or SIMDE else "-O3"]
BASE += ["-g", *sanitizers] if SANITIZE else ["-g0"]  # debug information is most of an extension
# gcc believes that vectors on the stack are aligned to their size; Windows aligns it to 16 bytes.
BASE += ["-Wa,-muse-unaligned-vector-move"] if WINDOWS and not ARM else []
LINK = ["-static-libgcc"] if WINDOWS else ["-pthread", *(sanitizers if SANITIZE else [])]
CFLAGS = [*BASE, "-std=c11", "-fvisibility=hidden", "-fPIC", "-Wall", "-Wextra"]
CFLAGS += ["-Werror"] if WERROR else []
CFLAGS += ["-DSLM_SIMDE"] if SIMDE else []
# The first 64-bit cores (Cortex-A53, A72) lack the atomic instructions; calls that choose them at run time cost
# more than they save. Tuned for others, gcc moves so many loads ahead that the tiles no longer fit the registers.
BASELINE = ["-march=armv8-a", "-mtune=cortex-a72", "-mno-outline-atomics"]
BASELINE = BASELINE if ARM and TARGET.startswith("linux") else []
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
ABOVE_AVX2 = [*AVX2, "-Itests/simde", "-Wno-psabi"]  # the warning: vectors wider than the registers
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
DOTPROD = "-march=armv8.2-a+dotprod"
ISA_FLAGS = {
    "avx2": AVX2,
    "avxvnni": ABOVE_AVX2 if SIMDE else [*AVX2, "-mavxvnni"],
    "avx512vl": ABOVE_AVX2 if SIMDE else AVX512,
    "avx512": ABOVE_AVX2 if SIMDE else AVX512,
    "neon": [],
    "dotprod": [DOTPROD],
    "i8mm": [f"{DOTPROD}+i8mm"],
}

# The instruction sets that native/<folder> holds for this machine.
FOLDERS = {"x86": ["avx2", "avxvnni", "avx512vl", "avx512"], "arm": ["neon", "dotprod", "i8mm"]}
FOLDER = "arm" if ARM else "x86" if MACHINE.lower() in {"x86_64", "amd64"} else None
HEADERS = [str(p) for p in sorted(Path("native").rglob("*.h"))] + ["native/kernels.def"]


def c_library(name: str, sources: list[str], flags: list[str]) -> tuple[str, dict[str, list[str]]]:
    return name, {
        "sources": sources,
        "depends": HEADERS,
        "obj_deps": {"": HEADERS},
        "include_dirs": ["native"],
        "cflags": CFLAGS + BASELINE + flags,
    }


def sources(folder: str, pattern: str = "*.c") -> list[str]:
    return [p.as_posix() for p in sorted(Path("native", folder).glob(pattern))]


# The linker resolves from left to right: the core calls kernels through the table, so kernels come after it.
LIBRARIES = [c_library("slm_core", sources("."), []), c_library("slm_ref", sources("ref"), [])]
if FOLDER:
    LIBRARIES += [c_library(f"slm_{isa}", sources(FOLDER, f"*_{isa}.c"), ISA_FLAGS[isa]) for isa in FOLDERS[FOLDER]]


def extension(module: str, path: str) -> Extension:
    return Extension(
        module,
        [path],
        include_dirs=["native"],
        depends=HEADERS,
        define_macros=[("Py_LIMITED_API", LIMITED_API), ("CYTHON_LIMITED_API", LIMITED_API)],
        extra_compile_args=BASE + BASELINE,
        extra_link_args=LINK,
        libraries=["m"],
        py_limited_api=True,
    )


EXTENSIONS = [
    extension("edgeslm._native", "edgeslm/_native.pyx"),
    extension("edgeslm.generation._sampling", "edgeslm/generation/_sampling.pyx"),
]
# On Windows MinGW-w64: the kernels are GNU C, which Microsoft's compiler does not take.
MINGW = {command: {"compiler": "mingw32"} for command in ("build_clib", "build_ext")}
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False}
if PURE:
    setup()
else:
    setup(
        libraries=LIBRARIES,
        ext_modules=cythonize(EXTENSIONS, compiler_directives=DIRECTIVES),
        options={"bdist_wheel": {"py_limited_api": "cp311"}, **(MINGW if sys.platform == "win32" else {})},
    )
