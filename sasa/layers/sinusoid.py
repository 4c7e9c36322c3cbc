"""The absolute position of Table 5: a fixed two-dimensional sinusoid."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoid_2d(
    channels: int, height: int, width: int, *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The sinusoidal encoding of every pixel's row and column, (channels, height, width) in [−1, 1].

    The first half of the channels encodes the row, the second the column; each half holds sines, then
    cosines, of the index over wavelengths that grow geometrically from 2π towards 2π · 10000.
    """
    rows, cols = -(-channels // 2), channels // 2
    row = _sinusoid(rows, height, device)[:, :, None].expand(-1, -1, width)
    col = _sinusoid(cols, width, device)[:, None, :].expand(-1, height, -1)
    return torch.cat((row, col)).to(dtype)


def _sinusoid(channels: int, size: int, device: torch.device) -> Tensor:
    """One axis: float32 (channels, size)."""
    waves = -(-channels // 2)
    exponent = torch.arange(waves, device=device, dtype=torch.float32) / max(1, waves)
    angle = torch.arange(size, device=device, dtype=torch.float32) * 10000 ** -exponent[:, None]
    return torch.cat((angle.sin(), angle.cos()))[:channels]
