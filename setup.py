"""Builds the CPU kernels of csrc/ with the package; pyproject.toml holds everything else.

Where they cannot be built the package installs all the same, without them: `sasa version` says so, and
`pip install -v` shows the error.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The oldest torch whose stable ABI the kernels use, as TORCH_TARGET_VERSION wants it: 2.11.
TORCH_TARGET = "0x020b000000000000"

FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",  # Python's own flags ask for debugging information, 13 MB of it
    "-fvisibility=hidden",
    "-ffp-contract=fast",  # multiply and add in one instruction
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
]
# For `make sanitize`: what -fsanitize= takes. The library then runs under LD_PRELOAD of the sanitizers'.
if SANITIZE := os.environ.get("SASA_SANITIZE"):
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
CAPABILITIES = {"portable": [], **({"avx2": AVX2, "avx512": AVX512} if IS_X86 else {})}


class BuildKernels(build_ext):
    """Compiles the source of each capability with that capability's instructions."""

    def build_extension(self, ext: Extension) -> None:
        """Compile what depends on no capability last, since it is linked with the rest."""

        def compiled(capability: str) -> list[str]:
            return self.compiler.compile(
                [f"csrc/{capability}.cpp"],
                output_dir=str(Path(self.build_temp)),
                extra_postargs=[*FLAGS, *CAPABILITIES[capability]],
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            ext.extra_objects += [name for names in threads.map(compiled, CAPABILITIES) for name in names]
        super().build_extension(ext)


def kernels() -> list[Extension]:
    """The extension, or none where torch's headers are missing."""
    try:
        from torch.utils.cpp_extension import include_paths, library_paths
    except ImportError:
        print("sasa: torch is not installed where this is built; building without the CPU kernels")
        return []
    link = ["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else []
    link += [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    own = {f"csrc/{capability}.cpp" for capability in ("portable", "avx2", "avx512")}
    return [
        Extension(
            "sasa._cpu",
            sorted({str(path) for path in Path("csrc").glob("*.cpp")} - own),
            depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
            include_dirs=include_paths(),
            define_macros=[("TORCH_TARGET_VERSION", TORCH_TARGET)],
            library_dirs=library_paths(),
            libraries=["torch_cpu"],
            extra_compile_args=FLAGS,
            extra_link_args=link,
            py_limited_api=True,
            optional=True,
        )
    ]


setup(
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
