"""Builds the CPU kernels of csrc/ with the package; pyproject.toml holds everything else.

If they cannot be built, the package is installed without them. `sasa version` reports it, and
`pip install -v` shows the error.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# The oldest torch whose stable ABI the kernels use, 2.11, in the format of TORCH_TARGET_VERSION.
TORCH_TARGET = "0x020b000000000000"

FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",  # Python's own flags add 13 MB of debugging information
    "-fvisibility=hidden",
    "-ffp-contract=fast",  # multiply and add in one instruction
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
]
# For `make sanitize`: the value of -fsanitize=. The library then runs with the sanitizers' in LD_PRELOAD.
if SANITIZE := os.environ.get("SASA_SANITIZE"):
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
KERNELS = sorted(str(path) for path in Path("csrc").glob("*/kernels.cpp"))
CAPABILITIES = {"portable": [], **({"avx2": AVX2, "avx512": AVX512} if IS_X86 else {})}


class BuildKernels(build_ext):
    """Compiles each op's kernels once per capability, with its instructions and in its namespace."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's file, without a Python's tag: it is loaded by torch and uses no API of Python."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile the kernels, then the rest, and link them."""

        def compiled(source_and_capability: tuple[str, str]) -> list[str]:
            source, capability = source_and_capability
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp, capability)),
                macros=[("SASA_CAPABILITY", capability)],
                include_dirs=["csrc"],
                extra_postargs=[*FLAGS, *CAPABILITIES[capability]],
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for names in threads.map(compiled, product(KERNELS, CAPABILITIES)):
                ext.extra_objects += names
        super().build_extension(ext)


class AnyPython(bdist_wheel):
    """Tags the wheel for every Python and ABI, on the platform of the library."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform."""
        return ("py3", "none", super().get_tag()[2])


def kernels() -> list[Extension]:
    """The extension, or none if torch's headers are missing."""
    try:
        from torch.utils.cpp_extension import include_paths, library_paths
    except ImportError:
        print("sasa: torch is not installed where this is built; building without the CPU kernels")
        return []
    link = ["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else []
    link += [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    return [
        Extension(
            "sasa._cpu",
            sorted({str(path) for path in Path("csrc").glob("*/*.cpp")} - set(KERNELS)),
            depends=sorted(str(path) for path in Path("csrc").glob("*/*.h")),
            include_dirs=["csrc", *include_paths()],
            define_macros=[("TORCH_TARGET_VERSION", TORCH_TARGET)],
            library_dirs=library_paths(),
            libraries=["torch_cpu"],
            extra_compile_args=FLAGS,
            extra_link_args=link,
            optional=True,
        )
    ]


setup(
    ext_modules=kernels(),
    cmdclass={"bdist_wheel": AnyPython, "build_ext": BuildKernels},
)
