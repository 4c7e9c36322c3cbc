"""The window of a local attention: its extent, dilation, border rule and pooling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalAttentionSpec:
    """Everything about one local attention that is not a tensor.

    The window of the query at (i, j) holds the positions (i + a·dilation[0], j + b·dilation[1]) with
    |a| ≤ kernel_size[0]//2 and |b| ≤ kernel_size[1]//2 that lie inside the map. Positions outside the
    map take no part in the softmax (the window is truncated), so every query's weights sum to one.
    """

    num_heads: int
    kernel_size: tuple[int, int]
    dilation: tuple[int, int]
    scale: float
    pool: int

    @property
    def radius(self) -> tuple[int, int]:
        """How far the window reaches from its centre along each axis, in pixels."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return kh // 2 * dh, kw // 2 * dw

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output map: ceil(size / pool)."""
        return -(-height // self.pool), -(-width // self.pool)

    def positions_inside(self, height: int, width: int) -> int:
        """Window positions that lie inside a map of height × width, summed over all its queries."""
        count = 1
        for size, k, d in zip((height, width), self.kernel_size, self.dilation, strict=True):
            count *= sum(max(0, size - abs(tap) * d) for tap in range(-(k // 2), k // 2 + 1))
        return count
