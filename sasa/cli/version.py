"""sasa version."""

from __future__ import annotations

import argparse

HELP = "print the versions of sasa and torch, and the backends of the op"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print the versions."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    import sasa
    from sasa.ops import cpu_extension
    from sasa.ops.dispatch import backend_names

    print(f"sasa {sasa.__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"backends: {', '.join(backend_names(sasa.local_attention))}")
    if cpu_extension.is_available():
        best, *others = cpu_extension.capabilities()
        hint = f" (or SASA_CPU_CAPABILITY={'|'.join(others)})" if others else ""
        print(f"CPU kernels: {best}{hint}")
    else:
        print(f"CPU kernels: none; {cpu_extension.MISSING}")
    try:
        triton = f"triton {version('triton')}"
    except PackageNotFoundError:
        triton = "none; triton is not installed"
    devices = torch.cuda.device_count()
    print(f"GPU kernels: {triton}, {devices} CUDA device{'' if devices == 1 else 's'}")
