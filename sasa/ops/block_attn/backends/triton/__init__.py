"""Fused Triton kernels for tensors on a CUDA device; nothing but the arguments is kept for the backward pass.

Nothing here imports triton until a kernel is launched, so that `sasa` can be imported without it.
"""

from __future__ import annotations

import torch

from sasa.ops import function_transforms, reasons
from sasa.ops.block_attn import schema
from sasa.ops.block_attn.inputs import BlockAttentionInputs
from sasa.ops.cuda_kernels import register_cuda_kernel

NAME = "triton"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Channels are unrolled, and a program keeps a block's weights and values in registers.
_CHANNELS, _POSITIONS, _HEAD_DIM = 4, 64, 64


def why_not(inputs: BlockAttentionInputs) -> list[str]:
    """Every reason why this backend cannot run these inputs."""
    limits = (
        ("channels of x", inputs.x.shape[1], _CHANNELS),
        ("positions of a block", inputs.block_size**2, _POSITIONS),
        ("outputs of a head", inputs.head_dim, _HEAD_DIM),
    )
    found = [
        *reasons.triton_kernels(inputs.device),
        *reasons.dtypes("x is", (inputs.x,), _DTYPES),
        *reasons.precision(inputs.weights, inputs.x.dtype),
        *(f"{number} {what} are more than {most}" for what, number, most in limits if number > most),
        *reasons.image_sizes({"x": inputs.x}),
        *reasons.gradient("x", inputs.x),
        *function_transforms.why_not(*inputs.tensors),
    ]
    if inputs.v_weight.shape[1] * inputs.x.shape[2] * inputs.x.shape[3] > reasons.LARGEST_IMAGE:
        found.append("an image of the output has more than 2**31 elements")
    return found


block_attention, block_attention_statistics = schema.call, schema.call_statistics

register_cuda_kernel("block_attention", f"{__name__}.op", "forward")
register_cuda_kernel("block_attention_statistics", f"{__name__}.op", "statistics")
register_cuda_kernel("block_attention_backward", f"{__name__}.op", "backward")
