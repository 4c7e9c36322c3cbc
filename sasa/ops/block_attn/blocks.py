"""The block_size × block_size blocks of a map: L of them with P = block_size² pixels each, and N heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def to_blocks(x: Tensor, block_size: int) -> Tensor:
    """(B, C, H, W) to (B, C, L, P) with the channels innermost in memory, padded with zeros at the right and
    below."""
    x = F.pad(x, (0, -x.shape[3] % block_size, 0, -x.shape[2] % block_size))
    x = x.unflatten(3, (-1, block_size)).unflatten(
        2, (-1, block_size)
    )  # (B, C, h, block_size, w, block_size)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def from_blocks(x: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """(B, L, P, C) to (B, C, height, width), without the padding."""
    x = x.unflatten(2, (block_size, block_size)).unflatten(
        1, (-(-height // block_size), -1)
    )  # (B, h, w, block_size, block_size, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width]


def block_softmax(logits: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """The softmax in at least float32 of (B, L, N, P, P) over the last P, without the padding."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if height % block_size or width % block_size:
        outside = to_blocks(logits.new_ones(1, 1, height, width), block_size) == 0  # (1, 1, L, P)
        logits = logits.masked_fill(outside.movedim(1, 2).unsqueeze(3), -torch.inf)
    return logits.softmax(-1)


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


def attend(weights: Tensor, values: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """The sums of values (B, L, P, N·D) by weights (B, L, N, P, P), as a map (B, N·D, height, width)."""
    heads = values.unflatten(-1, (weights.shape[2], -1))  # (B, L, P, N, D)
    out = torch.einsum("blnij,bljnd->blind", weights, heads).flatten(-2)
    return from_blocks(out, block_size, height, width)


def as_maps(weights: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """(B, L, N, P, P) to a map of each pixel's weights, (B, N, height, width, block_size, block_size)."""
    maps = from_blocks(weights.transpose(2, 3).flatten(3), block_size, height, width)
    return maps.unflatten(1, (weights.shape[2], block_size, block_size)).movedim((2, 3), (-2, -1))
