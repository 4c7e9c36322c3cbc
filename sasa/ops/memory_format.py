"""Memory formats of maps (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie together, as in a channels-last map or some channels of one."""
    together = x.stride(1) == 1 and x.stride(3) >= x.shape[1] and x.stride(2) >= x.stride(3) * x.shape[3]
    return together and not x.is_contiguous()


def memory_format(channels_last: bool) -> torch.memory_format:
    """The memory format of a map that is channels-last or else contiguous."""
    return torch.channels_last if channels_last else torch.contiguous_format


def empty_map(like: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
    """A map (B, C, H, W) with the dtype and device of another, whose values are not set."""
    layout = memory_format(channels_last)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)
