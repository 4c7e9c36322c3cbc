"""Attention inside blocks as few large matrix products, in operations that every runtime has; for exports.

The pixels of a block are one vector, and logits and values are products of it with matrices that are mostly
zero. For small P the zeros cost less than many small products.

Shapes: B batch, L blocks of P pixels, C channels, N heads, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops.block_attn.backends import reference
from sasa.ops.block_attn.blocks import blocks_of, from_blocks, to_blocks
from sasa.ops.block_attn.inputs import BlockAttentionInputs

NAME = "dense"

# The zeros grow with P, and the matrices with P³.
_LARGEST_BLOCK = 16


def why_not(inputs: BlockAttentionInputs) -> list[str]:
    """No reason: this backend runs all inputs."""
    return []


block_attention_statistics = reference.block_attention_statistics


def block_attention(inputs: BlockAttentionInputs) -> Tensor:
    """See `sasa.ops.block_attention`."""
    if inputs.v_weight.shape[0] > _LARGEST_BLOCK:
        return reference.block_attention(inputs)
    dtype = torch.float32
    for x in (inputs.x, inputs.qk_weight, inputs.rel_weight, inputs.v_weight):
        dtype = torch.promote_types(dtype, x.dtype)
    size, (height, width) = inputs.block_size, inputs.x.shape[2:]
    (num_heads, channels), positions = inputs.qk_weight.shape[:2], inputs.v_weight.shape[0]
    one = torch.eye(positions, dtype=dtype, device=inputs.x.device)

    pixels = to_blocks(inputs.x.to(dtype), size).permute(0, 2, 3, 1)  # (B, L, P, C)
    block = pixels.flatten(2)
    # A pixel that fills up a block adds a number as good as −∞ to the logits of its own key.
    missing = 1 - to_blocks(torch.ones_like(inputs.x[:1, :1], dtype=dtype), size)[:, 0]  # (1, L, P)
    lowest = torch.finfo(dtype).min / 2 * one[:, None, None, :].expand(-1, num_heads, positions, -1)
    # (P·C + P, N·P·P), (P·C, N·P·C) and (P·C, O·P)
    relative = torch.einsum("pi,ncij->pcnij", one, inputs.rel_weight.to(dtype)).flatten(2).flatten(0, 1)
    relative = torch.cat([relative, lowest.flatten(1)])
    queries = torch.einsum("pi,ncd->pcnid", one, inputs.qk_weight.to(dtype)).flatten(2).flatten(0, 1)
    v_weight = inputs.v_weight.to(dtype).unflatten(1, (num_heads, -1))
    values = torch.einsum("pj,pndc->pcnjd", one, v_weight).flatten(2).flatten(0, 1)

    filled = torch.cat([block, missing.expand(block.shape[0], -1, -1)], 2)
    query = (block @ queries).unflatten(2, (num_heads * positions, channels))
    position = (filled @ relative).unflatten(2, (-1, positions))
    logits = query @ pixels.transpose(2, 3) + position  # (B, L, N·P, P)
    weights = logits.softmax(-1).unflatten(2, (num_heads, positions))
    out = weights @ (block @ values).unflatten(2, (num_heads, positions, -1))  # (B, L, N, P, O/N)
    if inputs.max_pool:
        rows, cols = blocks_of(height, size), blocks_of(width, size)
        # The pixels that fill up a block are queries, too. An addition is faster than a choice.
        out = (out + torch.finfo(dtype).min / 2 * missing[:, :, None, :, None]).amax(3).flatten(2)
        return out.transpose(1, 2).unflatten(2, (rows, cols)).to(inputs.x.dtype)
    return from_blocks(out.transpose(2, 3).flatten(3), size, height, width).to(inputs.x.dtype)
