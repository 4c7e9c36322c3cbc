"""The window of a local attention: its extent, dilation and border rule, and what follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LocalAttentionSpec:
    """Everything about one local attention that is not a tensor.

    The window of the query at (i, j) holds the positions (i + a·dilation[0], j + b·dilation[1]) with
    |a| ≤ kernel_size[0]//2 and |b| ≤ kernel_size[1]//2 that lie inside the map. Positions outside the
    map take no part in the softmax (the window is truncated), so every query's weights sum to one.
    `pool` and then `relu` are applied to the output.
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
        *,
        num_heads: int,
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int],
        scale: float,
        pool: int,
        relu: bool = False,
    ) -> LocalAttentionSpec:
        """The spec of arguments as users give them; raises as `sasa.local_attention` promises."""
        extent = _pair("kernel_size", kernel_size)
        if any(size % 2 == 0 for size in extent):
            raise ValueError(f"kernel_size: expected odd sizes, got {kernel_size}")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise TypeError(f"scale: expected a float, got {type(scale).__name__}")
        if not -math.inf < scale < math.inf:  # math.isfinite is nothing for torch.compile
            raise ValueError(f"scale: expected a finite float, got {scale}")
        if positive_int("pool", pool) > 2:
            raise ValueError(f"pool: expected 1 or 2, got {pool}")
        if not isinstance(relu, bool):
            raise TypeError(f"relu: expected a bool, got {type(relu).__name__} {relu!r}")
        return cls(
            num_heads=positive_int("num_heads", num_heads),
            kernel_size=extent,
            dilation=_pair("dilation", dilation),
            scale=float(scale),
            pool=pool,
            relu=relu,
        )

    @property
    def radius(self) -> tuple[int, int]:
        """How far the window reaches from its center along each axis, in pixels."""
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


def positive_int(name: str, value: Any) -> int:
    """The value, if it is an int of at least 1; TypeError or ValueError, which name it, if not."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value


def _pair(name: str, value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an int or a pair, got {value!r}")
        return positive_int(name, value[0]), positive_int(name, value[1])
    size = positive_int(name, value)
    return size, size
