"""Attention inside blocks by definition, in plain, traceable, twice differentiable PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops.block_attn.blocks import attend, attention_weights, maximum_of_blocks, to_blocks
from sasa.ops.block_attn.inputs import BlockAttentionInputs

NAME = "reference"


def why_not(inputs: BlockAttentionInputs) -> list[str]:
    """No reason: this backend runs all inputs."""
    return []


def block_attention(inputs: BlockAttentionInputs) -> Tensor:
    """See `sasa.ops.block_attention`."""
    out = _outputs(inputs)
    return (maximum_of_blocks(out, inputs.block_size) if inputs.max_pool else out).to(inputs.x.dtype)


def block_attention_statistics(inputs: BlockAttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`."""
    out = _outputs(inputs)
    maximum = maximum_of_blocks(out, inputs.block_size).to(inputs.x.dtype)
    return maximum, out.mean((0, 2, 3)), out.var((0, 2, 3), correction=0)


def _outputs(inputs: BlockAttentionInputs) -> Tensor:
    """(B, O, H, W) in at least float32."""
    x, v_weight, block_size = inputs.x, inputs.v_weight, inputs.block_size
    weights = attention_weights(x, inputs.qk_weight, inputs.rel_weight, block_size)  # (B, L, N, P, P)
    dtype = torch.promote_types(weights.dtype, v_weight.dtype)
    values = torch.einsum("bclp,poc->blpo", to_blocks(x.to(dtype), block_size), v_weight.to(dtype))
    return attend(weights.to(dtype), values, block_size, *x.shape[2:])
