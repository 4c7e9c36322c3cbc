"""The window of a local attention: its extent, dilation and border rule, and what follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sasa.ops.checks import check_bool, pair, positive_int


@dataclass(frozen=True)
class LocalAttentionSpec:
    """Everything about one local attention that is not a tensor.

    The window of the query at (i, j) holds the positions (i + a·dilation[0], j + b·dilation[1]) with
    |a| ≤ kernel_size[0]//2 and |b| ≤ kernel_size[1]//2 that lie inside the map. Positions outside the
    map take no part in the softmax (the window is truncated), so every query's weights sum to one.

    Attributes:
        num_heads: N, at least 1.
        kernel_size: Rows and columns of the window, odd.
        dilation: Distance of neighboring window positions along each axis, in pixels.
        scale: Factor of the logits.
        pool: 1, or 2 for the mean over 2 × 2 outputs at stride 2.
        relu: Whether max(0, ·) of the output is taken, after pooling.
    """

    num_heads: int
    kernel_size: tuple[int, int]
    dilation: tuple[int, int]
    scale: float
    pool: int
    relu: bool = False

    @classmethod
    def validated(
        cls,
        num_heads: int,
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int],
        scale: float,
        pool: int,
        relu: bool = False,
    ) -> LocalAttentionSpec:
        """The spec of a user's arguments; args and errors as in `sasa.local_attention`."""
        extent = pair("kernel_size", kernel_size)
        if any(size % 2 == 0 for size in extent):
            raise ValueError(f"kernel_size: expected odd sizes, got {kernel_size}")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise TypeError(f"scale: expected a float, got {type(scale).__name__}")
        if not -math.inf < scale < math.inf:  # torch.compile cannot trace math.isfinite
            raise ValueError(f"scale: expected a finite float, got {scale}")
        if positive_int("pool", pool) > 2:
            raise ValueError(f"pool: expected 1 or 2, got {pool}")
        return cls(
            num_heads=positive_int("num_heads", num_heads),
            kernel_size=extent,
            dilation=pair("dilation", dilation),
            scale=float(scale),
            pool=pool,
            relu=check_bool("relu", relu),
        )

    @classmethod
    def of_arguments(
        cls, num_heads: int, kh: int, kw: int, dh: int, dw: int, scale: float, pool: int, relu: bool = False
    ) -> LocalAttentionSpec:
        """The spec of the arguments of a registered op, which are `arguments` and possibly relu."""
        return cls(num_heads, (kh, kw), (dh, dw), scale, pool, relu)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the registered ops take, without relu."""
        return (self.num_heads, *self.kernel_size, *self.dilation, self.scale, self.pool)

    @property
    def radius(self) -> tuple[int, int]:
        """How far the window reaches from its center along each axis, in pixels."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return kh // 2 * dh, kw // 2 * dw

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output map: ceil(size / pool)."""
        # Written as a strided convolution's size is, so that torch.export finds that both are equal.
        return (height - 1) // self.pool + 1, (width - 1) // self.pool + 1

    def positions_inside(self, height: int, width: int) -> int:
        """Window positions that lie inside a map of height × width, summed over all its queries."""
        count = 1
        for size, k, d in zip((height, width), self.kernel_size, self.dilation, strict=True):
            count *= sum(max(0, size - abs(tap) * d) for tap in range(-(k // 2), k // 2 + 1))
        return count
