"""The schemas' implementations for CUDA tensors; triton is imported when the first of them is called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.local_attn import schema  # noqa: F401  (defines the ops)


@torch.library.impl("sasa::local_attention", "CUDA")
def _forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    from sasa.ops.local_attn.backends.triton import op

    with torch.cuda.device(arguments[0].device):
        return op.forward(*arguments)


@torch.library.impl("sasa::local_attention_backward", "CUDA")
def _backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from sasa.ops.local_attn.backends.triton import op

    with torch.cuda.device(arguments[0].device):
        return op.backward(*arguments)
