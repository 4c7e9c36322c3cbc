"""Local attention the usual way, by unfolding: short, memory hungry, easy to get wrong.

Each step is a method, so that a mistake is a subclass with one other step.

Shapes: B, N heads, D (or Dv), K = kh·kw positions of the window row by row, L = H·W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Unfolded:
    """Call it as `sasa.local_attention`, for inputs that are valid."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        *,
        num_heads: int,
        kernel_size: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
        scale: float = 1.0,
        pool: int = 1,
        relu: bool = False,
    ) -> Tensor:
        self.heads, self.kernel, self.dilation, self.scale = num_heads, kernel_size, dilation, scale
        self.size, self.dtype = q.shape[2:], v.dtype
        work = self.precision(q)
        q, k, v, rel_row, rel_col = (x if x is None else x.to(work) for x in (q, k, v, rel_row, rel_col))
        query = self.split(q)  # (B, N, D, L)
        terms = []
        if k is not None:
            terms.append(self.content(query, self.unfold(k)))
        if rel_row is not None or rel_col is not None:
            terms.append(self.position(query, rel_row, rel_col))
        weights = self.softmax(self.scaled(sum(terms)))
        out = self.weighted(weights, self.unfold(v)).unflatten(-1, self.size)
        out = self.pooled(out) if pool == 2 else out
        return (self.rectified(out) if relu else out).to(self.dtype)

    def precision(self, q: Tensor) -> torch.dtype:
        """The dtype of the arithmetic."""
        return torch.promote_types(q.dtype, torch.float32)

    def split(self, x: Tensor) -> Tensor:
        """(B, N·D, H, W) to (B, N, D, L)."""
        return x.flatten(2).unflatten(1, (self.heads, -1))

    def unfold(self, x: Tensor) -> Tensor:
        """(B, N·D, H, W) to (B, N, D, K, L), zero outside the map."""
        columns = F.unfold(x, self.kernel, self.dilation, self.reach())  # (B, N·D·K, L)
        return columns.unflatten(1, (self.heads, -1, self.kernel[0] * self.kernel[1]))

    def reach(self) -> tuple[int, int]:
        """How far the window goes on each side."""
        return self.kernel[0] // 2 * self.dilation[0], self.kernel[1] // 2 * self.dilation[1]

    def content(self, query: Tensor, keys: Tensor) -> Tensor:
        """q·k: (B, N, K, L)."""
        return (query.unsqueeze(3) * keys).sum(2)

    def position(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        """q·r: (B, N, K, L)."""
        return torch.einsum("bndl,nkd->bnkl", query, self.relative(query, row, col))

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        """r: (N, K, D)."""
        kh, kw = self.kernel
        half = query.shape[2] // 2
        row = query.new_zeros(self.heads, kh, half) if row is None else row
        col = query.new_zeros(self.heads, kw, half) if col is None else col
        rows = row[:, :, None].expand(-1, kh, kw, half)
        cols = col[:, None, :].expand(-1, kh, kw, half)
        return torch.cat([rows, cols], -1).flatten(1, 2)

    def scaled(self, logits: Tensor) -> Tensor:
        return self.scale * logits

    def inside(self, like: Tensor) -> Tensor:
        """Which positions lie inside the map: bool (K, L)."""
        ones = torch.ones(1, 1, *self.size, device=like.device)
        return F.unfold(ones, self.kernel, self.dilation, self.reach())[0] > 0

    def softmax(self, logits: Tensor) -> Tensor:
        return logits.masked_fill(~self.inside(logits), -torch.inf).softmax(-2)

    def weighted(self, weights: Tensor, values: Tensor) -> Tensor:
        """Σ w·v: (B, N·Dv, L)."""
        return (weights.unsqueeze(2) * values).sum(3).flatten(1, 2)

    def pooled(self, out: Tensor) -> Tensor:
        return F.avg_pool2d(out, 2, ceil_mode=True, count_include_pad=False)

    def rectified(self, out: Tensor) -> Tensor:
        return out.relu()
