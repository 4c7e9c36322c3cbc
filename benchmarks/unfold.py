"""The usual implementation in PyTorch: F.unfold of keys and values, and a masked softmax."""

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
    """Compute `sasa.local_attention` with its border rule; each pixel has its own copy of its window.

    It uses products and sums, because einsum copies the unfolded maps once more and takes 1.3 to 1.5 times
    as long. Shapes: B images, N heads, head_dim D, K = k² positions, L pixels.
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
    """Return the mask of window positions outside the map, (K, L)."""
    inside = F.unfold(torch.ones(1, 1, height, width), kernel_size, padding=kernel_size // 2)
    return inside[0] == 0
