"""The definition of right: attention inside blocks in plain, traceable, twice differentiable PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sasa.ops.block_attn.blocks import block_softmax, from_blocks, to_blocks

NAME = "reference"


def why_not(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor) -> list[str]:
    """The reasons why this backend cannot run these arguments: none, ever."""
    return []


def block_attention(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int, max_pool: bool
) -> Tensor:
    """See `sasa.ops.block_attention`; the arguments are valid."""
    out = _outputs(x, qk_weight, rel_weight, v_weight, block_size)
    return (F.max_pool2d(out, block_size, ceil_mode=True) if max_pool else out).to(x.dtype)


def block_attention_statistics(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`; the arguments are valid."""
    out = _outputs(x, qk_weight, rel_weight, v_weight, block_size)
    maximum = F.max_pool2d(out, block_size, ceil_mode=True)
    return maximum.to(x.dtype), out.mean((0, 2, 3)), out.var((0, 2, 3), correction=0)


def _outputs(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int) -> Tensor:
    """(B, O, H, W) in at least float32."""
    weights = attention_weights(x, qk_weight, rel_weight, block_size)  # (B, L, N, P, P)
    dtype = torch.promote_types(weights.dtype, v_weight.dtype)
    values = torch.einsum("bclp,poc->blpo", to_blocks(x.to(dtype), block_size), v_weight.to(dtype))
    heads = values.unflatten(-1, (len(qk_weight), -1))  # (B, L, P, N, D)
    out = torch.einsum("blnij,bljnd->blind", weights.to(dtype), heads).flatten(-2)
    return from_blocks(out, block_size, *x.shape[2:])


def attention_weights(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, block_size: int) -> Tensor:
    """The softmax inside each of the L blocks in at least float32, (B, L, N, P, P)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    for argument in (qk_weight, rel_weight):
        dtype = torch.promote_types(dtype, argument.dtype)
    pixels = to_blocks(x.to(dtype), block_size)  # (B, C, L, P)
    queries = torch.einsum("bcli,ncd->blnid", pixels, qk_weight.to(dtype))
    content = torch.einsum("blnid,bdlj->blnij", queries, pixels)
    logits = content + torch.einsum("bcli,ncij->blnij", pixels, rel_weight.to(dtype))
    return block_softmax(logits, block_size, *x.shape[2:])
