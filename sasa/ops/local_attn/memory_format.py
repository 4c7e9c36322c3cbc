"""Which memory format a map has."""

from __future__ import annotations

from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie together, as in a channels-last map or some channels of one."""
    together = x.stride(1) == 1 and x.stride(3) >= x.shape[1] and x.stride(2) >= x.stride(3) * x.shape[3]
    return together and not x.is_contiguous()
