"""The normalization layers of FPN and heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

GROUP_SIZE = 8
"""Channels per group of a group norm."""


def group_norm(channels: int) -> nn.GroupNorm:
    """A group norm with GROUP_SIZE channels per group."""
    return nn.GroupNorm(channels // GROUP_SIZE, channels)


NORM_LAYERS: dict[str, Callable[[int], nn.Module] | None] = {"group": group_norm, "none": None}
"""torchvision's norm_layer by the `norm` of `create_retinanet`."""
