"""C++ kernels (csrc/) for CPUs; nothing but the arguments is kept for the backward pass."""

from __future__ import annotations

import torch

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


block_attention, block_attention_statistics = schema.call, schema.call_statistics
