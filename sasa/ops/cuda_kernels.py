"""Kernels of the registered ops for CUDA tensors."""

from __future__ import annotations

import importlib
from typing import Any

import torch


def register_cuda_kernel(op: str, module: str, function: str) -> None:
    """Let a function run the op on CUDA tensors.

    Args:
        op: Name of the op, without its namespace.
        module: Name of the function's module, which is imported at the first call, as it needs Triton.
        function: Name of the function, which takes the arguments of the op; the first is a tensor.
    """

    @torch.library.impl(f"sasa::{op}", "CUDA")
    def run(*arguments: Any) -> Any:
        with torch.cuda.device(arguments[0].device):
            return getattr(importlib.import_module(module), function)(*arguments)
