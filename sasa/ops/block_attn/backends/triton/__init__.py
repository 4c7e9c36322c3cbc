"""Fused Triton kernels for tensors on a CUDA device; nothing but the arguments is kept for the backward pass.

Nothing here imports triton until a kernel is launched, so that `sasa` can be imported without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import function_transforms, reasons
from sasa.ops.block_attn import schema
from sasa.ops.block_attn.backends.triton import register  # noqa: F401  (adds the kernels to the ops)
from sasa.ops.block_attn.inputs import BlockAttentionInputs

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


def block_attention(inputs: BlockAttentionInputs) -> Tensor:
    """See `sasa.ops.block_attention`."""
    return schema.call(inputs)


def block_attention_statistics(inputs: BlockAttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`."""
    return schema.call_statistics(inputs)
