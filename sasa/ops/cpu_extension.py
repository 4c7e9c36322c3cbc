"""The compiled part of the package: whether it was built, and which instructions it can use here."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from pathlib import Path

import torch

MISSING = (
    "sasa was installed without its compiled part: building it found no C++17 compiler, failed, or, with "
    "--no-build-isolation, found no torch (`pip install -v` of the sources says which)"
)
"""Why there are no kernels, and what to do."""


def _load() -> ctypes.CDLL | None:
    """Load the shared library of the CPU kernels, which adds them to the ops; None if it was not built."""
    path = Path(__file__).parents[1] / "_cpu.so"
    if not path.exists():
        return None
    torch.ops.load_library(path)
    return ctypes.CDLL(str(path))


def _has_bfloat16(library: ctypes.CDLL | None) -> bool:
    if library is None:
        return False
    library.sasa_cpu_has_avx512_bf16.restype = ctypes.c_bool
    return bool(library.sasa_cpu_has_avx512_bf16())


_LIBRARY = _load()
_BFLOAT16 = _has_bfloat16(_LIBRARY)
_warned = False


def is_available() -> bool:
    """Whether the package was built with its compiled part."""
    return _LIBRARY is not None


def capabilities() -> tuple[str, ...]:
    """The instruction sets that the kernels can use on this machine, from best to worst.

    Those of "avx512", "avx2" and "portable", or none without the compiled part. The kernels take the best
    unless the environment variable SASA_CPU_CAPABILITY, which is read at every call of an op, names another.
    """
    if _LIBRARY is None:
        return ()
    names = _LIBRARY.sasa_cpu_capabilities
    names.restype = ctypes.c_char_p
    return tuple(names().decode().split())


def multiplies_bfloat16() -> bool:
    """Whether the kernels can multiply bfloat16 as it is (AVX512_BF16), twice as fast as float32."""
    return _BFLOAT16 and os.environ.get("SASA_CPU_CAPABILITY", "") in ("", "avx512")


def warn_once_if_missing() -> None:
    """Warn, once per process, that the reference runs in place of the kernels."""
    global _warned
    if _LIBRARY is None and not _warned:
        _warned = True
        warnings.warn(
            f"{MISSING}. Until then attention on the CPU runs in plain PyTorch, tens of times slower. "
            '`sasa version` shows what was built; backend="reference" asks for PyTorch and silences this.',
            stacklevel=_level_of_caller(),
        )


# As torch.compiler.assume_constant_result, which imports all of dynamo: it is no part of compiled graphs.
warn_once_if_missing._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _level_of_caller() -> int:
    """The stack level, as warnings count it, of the nearest frame outside sasa and torch."""
    inside = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    return level
