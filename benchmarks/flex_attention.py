"""Local attention by torch's compiled FlexAttention, with a local window and relative logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


class FlexLocalAttention:
    """`sasa.local_attention` for maps of one size; on a CPU for inference only, as FlexAttention itself.

    The relative logits are computed once per pixel and offset, and looked up in the score_mod.

    Args:
        height: Height of the map.
        width: Width of the map.
        kernel_size: Side of the window, odd.
        tile: Side of the squares into which pixels are sorted, each one block of FlexAttention, so that
            fewer blocks are computed; None leaves pixels in raster order with the default blocks of 128. At
            56 × 56 and k = 7, 4 was the fastest of 2×4, 2×8, 4×4, 4×7, 4×8, 4×14, 7×7, 8×8 and 8×14: three
            times as fast as raster order.
        device: Device of the tensors.
    """

    def __init__(
        self, height: int, width: int, kernel_size: int, tile: int | None = None, device: str = "cpu"
    ) -> None:
        reach = self.reach = kernel_size // 2
        pixels = torch.arange(height * width, device=device)
        if tile is not None:
            if height % tile or width % tile:
                raise ValueError(f"tile: expected a divisor of {height} and {width}, got {tile}")
            pixels = pixels.view(height // tile, tile, width // tile, tile).transpose(1, 2).flatten()
        self.order: Tensor | None = None if tile is None else pixels
        self.back: Tensor | None = None if tile is None else pixels.argsort()
        rows = self.rows = (pixels // width).int()
        cols = self.cols = (pixels % width).int()

        def in_window(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            near = (rows[query] - rows[key]).abs() <= reach
            return near & ((cols[query] - cols[key]).abs() <= reach)

        block = 128 if tile is None else tile**2
        size = len(pixels)
        self.mask = create_block_mask(in_window, None, None, size, size, device=device, BLOCK_SIZE=block)
        self._compiled = torch.compile(self._attend, dynamic=False, fullgraph=True)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        return self._compiled(q, k, v, rel_row, rel_col)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        heads, last, reach = len(rel_row), 2 * self.reach, self.reach
        rows, cols = self.rows, self.cols
        query, key, value = (self._in_order(x, heads) for x in (q, k, v))  # (B, N, L, D)
        half = query.shape[-1] // 2
        by_row = torch.einsum("bnld,nkd->bnlk", query[..., :half], rel_row)
        by_col = torch.einsum("bnld,nkd->bnlk", query[..., half:], rel_col)

        def add_relative(score: Tensor, b: Tensor, n: Tensor, i: Tensor, j: Tensor) -> Tensor:
            row = (rows[j] - rows[i] + reach).clamp(0, last)
            col = (cols[j] - cols[i] + reach).clamp(0, last)
            return score + by_row[b, n, i, row] + by_col[b, n, i, col]

        out = flex_attention(query, key, value, score_mod=add_relative, block_mask=self.mask, scale=1.0)
        if self.back is not None:
            out = out[:, :, self.back]
        return out.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, q.shape[-2:])

    def _in_order(self, x: Tensor, heads: int) -> Tensor:
        x = x.flatten(2).transpose(1, 2).unflatten(2, (heads, -1)).transpose(1, 2)
        return x if self.order is None else x[:, :, self.order]
