"""The rival: local attention the usual PyTorch way, F.unfold of keys and values and a masked softmax."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def unfold_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_row: Tensor,
    rel_col: Tensor,
    *,
    num_heads: int,
    kernel_size: int,
    pool: int = 1,
) -> Tensor:
    """`sasa.local_attention` with its border rule; every pixel gets its own copy of its window.

    Products and sums, because einsum copies the unfolded maps once more for its matrix products and takes
    1.3 to 1.5 times as long. With B, N heads, D head width, K = k², L pixels:
    """
    height, width = q.shape[-2:]
    query = q.flatten(2).unflatten(1, (num_heads, -1))  # (B, N, D, L)
    keys, values = (
        F.unfold(x, kernel_size, padding=kernel_size // 2).view(*query.shape[:3], kernel_size**2, -1)
        for x in (k, v)
    )  # (B, N, D, K, L)
    rows = rel_row[:, :, None].expand(-1, -1, kernel_size, -1)
    cols = rel_col[:, None, :].expand(-1, kernel_size, -1, -1)
    relative = torch.cat([rows, cols], -1).flatten(1, 2)  # (N, K, D)
    logits = (query.unsqueeze(3) * keys).sum(2) + torch.einsum("bndl,nkd->bnkl", query, relative)
    weights = logits.masked_fill(_outside(height, width, kernel_size), -torch.inf).softmax(2)
    out = (weights.unsqueeze(2) * values).sum(3).flatten(1, 2).unflatten(2, (height, width))
    return F.avg_pool2d(out, pool, ceil_mode=True, count_include_pad=False) if pool > 1 else out


@lru_cache
def _outside(height: int, width: int, kernel_size: int) -> Tensor:
    """Whether each window position of each pixel lies outside the map: (K, L)."""
    inside = F.unfold(torch.ones(1, 1, height, width), kernel_size, padding=kernel_size // 2)
    return inside[0] == 0
