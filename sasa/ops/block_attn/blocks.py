"""The block_size × block_size blocks of a map: L of them with P = block_size² pixels each, and N heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blocks_of(size: int, block_size: int) -> int:
    """The number of blocks along a side, the last one possibly cut off."""
    return (size - 1) // block_size + 1


def to_blocks(x: Tensor, block_size: int) -> Tensor:
    """(B, C, H, W) to (B, C, L, P) with the channels innermost in memory, padded with zeros at the right and
    below."""
    x = _padded(x, block_size, 0.0)
    if torch.compiler.is_exporting():  # sizes without numbers can be divided by a number only
        x = x.unfold(2, block_size, block_size).unfold(3, block_size, block_size)
        x = x.transpose(3, 4)  # (B, C, h, block_size, w, block_size)
    else:
        x = x.unflatten(3, (-1, block_size)).unflatten(2, (-1, block_size))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _padded(x: Tensor, block_size: int, value: float) -> Tensor:
    """A map with whole blocks: more columns at the right and rows below."""
    rows, columns = blocks_of(x.shape[2], block_size), blocks_of(x.shape[3], block_size)
    return F.pad(x, (0, columns * block_size - x.shape[3], 0, rows * block_size - x.shape[2]), value=value)


def from_blocks(x: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """(B, L, P, C) to (B, C, height, width), without the padding."""
    rows, columns = blocks_of(height, block_size), blocks_of(width, block_size)
    x = x.unflatten(1, (rows, columns))
    if torch.compiler.is_exporting():  # flattening and slicing compare sizes, which may have no numbers
        x = F.pixel_shuffle(x.permute(0, 4, 3, 1, 2).flatten(1, 2), block_size)
        x = x.index_select(2, torch.arange(height, device=x.device))
        return x.index_select(3, torch.arange(width, device=x.device))
    x = x.unflatten(3, (block_size, block_size)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return x[..., :height, :width]


def block_softmax(logits: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """The softmax in at least float32 of (B, L, N, P, P) over the last P, without the padding."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if torch.compiler.is_exporting() or height % block_size or width % block_size:
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


def maximum_of_blocks(x: Tensor, block_size: int) -> Tensor:
    """The maximum over each block of a map, (B, C, rows, columns); the last blocks may be cut off."""
    if torch.compiler.is_exporting():  # the ceiling mode compares sizes, which may have no numbers
        return F.max_pool2d(_padded(x, block_size, -torch.inf), block_size)
    return F.max_pool2d(x, block_size, ceil_mode=True)


def as_maps(weights: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """(B, L, N, P, P) to a map of each pixel's weights, (B, N, height, width, block_size, block_size)."""
    maps = from_blocks(weights.transpose(2, 3).flatten(3), block_size, height, width)
    return maps.unflatten(1, (weights.shape[2], block_size, block_size)).movedim((2, 3), (-2, -1))
