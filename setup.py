"""Builds the C libraries, one per instruction set with its own flags, and the Cython extensions over them.

Everything static stands in pyproject.toml. Environment:
    EDGESLM_WERROR=1     warnings in native/ are errors (CI)
    EDGESLM_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer (run Python with libasan preloaded)
"""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030b0000"  # one abi3 wheel for Python 3.11 and later
MSVC = sys.platform == "win32"
SANITIZE = bool(os.environ.get("EDGESLM_SANITIZE"))
WERROR = bool(os.environ.get("EDGESLM_WERROR"))

if MSVC:
    BASE = ["/O2"]
    CFLAGS = [*BASE, "/std:c11", *(["/WX"] if WERROR else [])]
    LINK: list[str] = []
    ISA_FLAGS = {"ref": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]}
else:
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    # No contraction: `a * b + c` must round the same in every build, or runs would depend on the compiler.
    BASE = ["-O3", "-ffp-contract=off"]
    BASE += ["-g", *sanitizers] if SANITIZE else ["-g0"]  # debug information is most of an extension
    LINK = ["-pthread", *(sanitizers if SANITIZE else [])]
    CFLAGS = [*BASE, "-std=c11", "-fvisibility=hidden", "-fPIC", "-Wall", "-Wextra"]
    CFLAGS += ["-Werror"] if WERROR else []
    AVX2 = ["-mavx2", "-mfma", "-mf16c"]
    AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
    ISA_FLAGS = {"ref": [], "avx2": AVX2, "avx512": AVX512}

X86 = platform.machine().lower() in {"x86_64", "amd64"}
HEADERS = [str(p) for p in sorted(Path("native").rglob("*.h"))] + ["native/kernels.def"]


def c_library(name: str, isa: str, sources: list[str]) -> tuple[str, dict[str, list[str]]]:
    return name, {
        "sources": sources,
        "depends": HEADERS,
        "obj_deps": {"": HEADERS},
        "include_dirs": ["native"],
        "cflags": CFLAGS + ISA_FLAGS[isa],
    }


def sources(folder: str, pattern: str = "*.c") -> list[str]:
    return [p.as_posix() for p in sorted(Path("native", folder).glob(pattern))]


# The linker resolves from left to right: the core calls kernels through the table, so kernels come after it.
LIBRARIES = [c_library("slm_core", "ref", sources(".")), c_library("slm_ref", "ref", sources("ref"))]
if X86:
    LIBRARIES += [c_library(f"slm_{isa}", isa, sources("x86", f"*_{isa}.c")) for isa in ("avx2", "avx512")]


def extension(module: str, path: str) -> Extension:
    return Extension(
        module,
        [path],
        include_dirs=["native"],
        depends=HEADERS,
        define_macros=[("Py_LIMITED_API", LIMITED_API), ("CYTHON_LIMITED_API", LIMITED_API)],
        extra_compile_args=BASE,
        extra_link_args=LINK,
        libraries=[] if MSVC else ["m"],
        py_limited_api=True,
    )


setup(
    libraries=LIBRARIES,
    ext_modules=cythonize(
        [
            extension("edgeslm._native", "edgeslm/_native.pyx"),
            extension("edgeslm.generation._sampling", "edgeslm/generation/_sampling.pyx"),
        ],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    ),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
