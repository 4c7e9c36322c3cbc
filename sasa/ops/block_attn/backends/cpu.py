"""C++ kernels (csrc/) for CPUs; nothing but the arguments is kept for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import function_transforms, reasons
from sasa.ops.block_attn import schema
from sasa.ops.block_attn.inputs import BlockAttentionInputs

NAME = "cpu"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(inputs: BlockAttentionInputs) -> list[str]:
    """Every reason why this backend cannot run these inputs."""
    return [
        *reasons.cpu_kernels(inputs.device),
        *reasons.dtypes("x is", (inputs.x,), _DTYPES),
        *reasons.precision(inputs.weights, inputs.x.dtype),
        *reasons.gradient("x", inputs.x),
        *function_transforms.why_not(*inputs.tensors),
    ]


def block_attention(inputs: BlockAttentionInputs) -> Tensor:
    """See `sasa.ops.block_attention`."""
    return schema.call(inputs)


def block_attention_statistics(inputs: BlockAttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`."""
    return schema.call_statistics(inputs)
