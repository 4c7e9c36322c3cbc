"""Local attention as products of tiles, in operations that every runtime has; for exports.

The map is cut into tiles of T × T queries. The union of a tile's windows has Y × X positions. All queries of
the tile attend to all of them, and positions outside a query's own window get a logit so low that their
weight is zero. A NaN or ∞ in a key or value therefore reaches all queries of its tiles.

Shapes: B batch, N heads, D width of a query and key head, Dv of a value head, H × W the map, h × w tiles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sasa.ops.local_attn.inputs import LocalAttentionInputs

NAME = "tiled"

# Even, so that no block of pooling is cut. The larger, the more positions are outside of a query's window.
_TILE = 4


def why_not(inputs: LocalAttentionInputs) -> list[str]:
    """No reason: this backend runs all inputs."""
    return []


class _Axis:
    """The rows or columns of a map and of its tiles.

    Attributes:
        tiles: Their number along the axis.
        queries: The rows of each tile's queries, (tiles, T), those behind the map's end replaced by its last.
        keys: The rows of each tile's keys, (tiles, Y), those outside the map replaced by its first or last.
        inside: Which of the keys' rows lie inside the map, bool (tiles, Y).
        window: Which of the keys' rows lie inside each query's window, bool (T, Y).
    """

    def __init__(self, size: int, taps: int, step: int, device: torch.device) -> None:
        self.size = size
        self.tiles = (size + _TILE - 1) // _TILE
        span = (taps - 1) * step + 1
        query = torch.arange(_TILE, device=device)
        key = torch.arange(_TILE - 1 + span, device=device)
        first = torch.arange(self.tiles, device=device)[:, None] * _TILE
        self._rows = first + query
        self.queries = self._rows.clamp(max=size - 1)
        rows = first + key - taps // 2 * step
        self.keys = rows.clamp(0, size - 1)
        self.inside = (rows >= 0) & (rows < size)
        offset = key - query[:, None]
        self.window = (offset >= 0) & (offset < span) & (offset % step == 0)
        # Which offset each of the keys' rows has from each query, 0 or 1, (T, taps, Y).
        self._offsets = offset[:, None] == step * torch.arange(taps, device=device)[:, None]

    def spread(self, by_offset: Tensor, axis: int) -> Tensor:
        """Logits by offset (…, taps) as logits by the keys' rows (…, Y); `axis` is that of the queries."""
        offsets = self._offsets.to(by_offset.dtype)
        moved = by_offset.transpose(axis, -3) @ offsets  # (…, T, ·, taps) @ (T, taps, Y)
        return moved.transpose(axis, -3)

    def shares(self, pool: int, dtype: torch.dtype) -> Tensor:
        """The share of each query in the mean over its block, (tiles, T/pool, pool)."""
        valid = (self._rows < self.size).to(dtype).unflatten(1, (-1, pool))
        return valid / valid.sum(2, keepdim=True).clamp(min=1)

    def positions(self, pool: int) -> tuple[Tensor, Tensor]:
        """Tile, and place in the tile, of each output along the axis."""
        out = torch.arange((self.size - 1) // pool + 1, device=self.keys.device)
        return out // (_TILE // pool), out % (_TILE // pool)


def local_attention(inputs: LocalAttentionInputs) -> Tensor:
    """Eq. 3 of Ramachandran et al. (2019); see `sasa.local_attention`."""
    spec, dtype = inputs.spec, torch.float32
    for x in inputs.tensors:
        if x is not None:
            dtype = torch.promote_types(dtype, x.dtype)
    batch, _, height, width = inputs.q.shape
    (kh, kw), (dh, dw) = spec.kernel_size, spec.dilation
    rows, cols = _Axis(height, kh, dh, inputs.device), _Axis(width, kw, dw, inputs.device)

    query = spec.scale * _tiles(inputs.q.to(dtype), spec.num_heads, rows.queries, cols.queries)
    sizes = (batch, spec.num_heads, rows.tiles, cols.tiles, _TILE, _TILE)
    half = query.shape[-1] // 2
    # Logits by row (B, N, h, w, T, T, Y) and by column (…, X), with the masks of window and border.
    by_row = _mask(rows.window, dtype)[:, None] + _mask(rows.inside, dtype)[:, None, None, None]
    by_col = _mask(cols.window, dtype) + _mask(cols.inside, dtype)[:, None, None]
    by_row, by_col = by_row.expand(*sizes, -1), by_col.expand(*sizes, -1)
    if inputs.rel_row is not None:
        by_row = by_row + rows.spread(_products(query[..., :half], inputs.rel_row, sizes), 4)
    if inputs.rel_col is not None:
        by_col = by_col + cols.spread(_products(query[..., half:], inputs.rel_col, sizes), 5)
    # Their sum for each position as a product, which is faster than an addition that broadcasts.
    position = torch.cat([by_row, by_col], -1).reshape(*query.shape[:3], by_row.shape[-1] + by_col.shape[-1])
    logits = position @ _selection(rows.keys.shape[1], cols.keys.shape[1], position)  # (B·N, h·w, T², Y·X)
    if inputs.k is not None:
        key = _tiles(inputs.k.to(dtype), spec.num_heads, rows.keys, cols.keys)
        logits = query @ key.transpose(-1, -2) + logits
    value = _tiles(inputs.v.to(dtype), spec.num_heads, rows.keys, cols.keys)
    out = logits.softmax(-1) @ value  # (B·N, h·w, T², Dv)
    out = out.unflatten(2, (_TILE, _TILE)).unflatten(1, (rows.tiles, cols.tiles))
    if spec.pool > 1:
        # (B·N, h, w, T/pool, pool, T/pool, pool, Dv)
        out = out.unflatten(4, (-1, spec.pool)).unflatten(3, (-1, spec.pool))
        out = (out * rows.shares(spec.pool, dtype)[:, None, :, :, None, None, None]).sum(4)
        out = (out * cols.shares(spec.pool, dtype)[:, None, :, :, None]).sum(5)
    out = _map(out, rows.positions(spec.pool), cols.positions(spec.pool)).reshape(inputs.output_shape)
    return (out.relu() if spec.relu else out).to(inputs.v.dtype)


def _tiles(x: Tensor, num_heads: int, rows: Tensor, cols: Tensor) -> Tensor:
    """The pixels at given rows and columns of each tile, (B, N·D, H, W) to (B·N, h·w, rows · columns, D)."""
    batch, channels, height, width = x.shape
    index = rows[:, None, :, None] * width + cols[None, :, None, :]  # (h, w, rows, columns)
    pixels = x.reshape(batch * num_heads, channels // num_heads, height * width).transpose(1, 2)
    tiles = pixels.index_select(1, index.flatten())
    return tiles.unflatten(1, (rows.shape[0] * cols.shape[0], rows.shape[1] * cols.shape[1]))


def _map(out: Tensor, rows: tuple[Tensor, Tensor], cols: tuple[Tensor, Tensor]) -> Tensor:
    """(B·N, h, w, rows, columns, Dv) to (B·N, Dv, H · W).

    Args:
        out: The tiles.
        rows: The tile of each row of the map, and its place there.
        cols: The same of each column.
    """
    across, height, width = out.shape[2:5]
    index = ((rows[0][:, None] * across + cols[0]) * height + rows[1][:, None]) * width + cols[1]
    return out.flatten(1, 4).index_select(1, index.flatten()).transpose(1, 2)


def _products(query: Tensor, rel: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Halves of queries (B·N, h·w, T², D/2) times embeddings (N, taps, D/2): (B, N, h, w, T, T, taps)."""
    by_head = query.reshape(*sizes[:2], math.prod(sizes[2:]), query.shape[-1])
    return (by_head @ rel.to(query.dtype).transpose(1, 2)).reshape(*sizes, rel.shape[1])


def _mask(inside: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero, or a number as good as −∞ outside, of which two have a finite sum."""
    return torch.zeros_like(inside, dtype=dtype).masked_fill(~inside, torch.finfo(dtype).min / 4)


def _selection(rows: int, cols: int, like: Tensor) -> Tensor:
    """The matrix of (Y + X, Y · X) that adds up an entry of a row and one of a column for each position."""
    row = torch.eye(rows, dtype=like.dtype, device=like.device)[:, :, None].expand(rows, rows, cols)
    col = torch.eye(cols, dtype=like.dtype, device=like.device)[:, None, :].expand(cols, rows, cols)
    return torch.cat([row, col]).flatten(1)
