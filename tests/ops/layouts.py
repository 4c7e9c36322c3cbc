"""Maps in all layouts that an op takes."""

from __future__ import annotations

import torch
from torch import Tensor

LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed", "expanded")


def arrange(x: Tensor, layout: str) -> Tensor:
    """A tensor in the layout; "expanded" repeats x's first column, all others hold x's values."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.mT.contiguous().mT
    if layout == "sliced":  # out of a larger tensor whose other elements are NaN
        batch, channels, height, width = x.shape
        shape = (batch + 1, channels + 2, 2 * height + 1, width + 3)
        larger = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)
        view = larger[1:, 1:-1, 1::2, 2:-1]
        view.copy_(x)
        return view
    if layout == "expanded":
        return x[..., :1].expand_as(x)
    return x.contiguous()
