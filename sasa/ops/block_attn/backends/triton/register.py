"""The schemas' implementations for CUDA tensors; triton is imported when the first of them is called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.block_attn import schema  # noqa: F401  (defines the ops)


@torch.library.impl("sasa::block_attention", "CUDA")
def _forward(x: Tensor, *arguments: Any) -> Tensor:
    from sasa.ops.block_attn.backends.triton import op

    with torch.cuda.device(x.device):
        return op.forward(x, *arguments)


@torch.library.impl("sasa::block_attention_statistics", "CUDA")
def _statistics(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from sasa.ops.block_attn.backends.triton import op

    with torch.cuda.device(x.device):
        return op.statistics(x, *arguments)


@torch.library.impl("sasa::block_attention_backward", "CUDA")
def _backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from sasa.ops.block_attn.backends.triton import op

    with torch.cuda.device(grad.device):
        return op.backward(grad, *arguments)
