"""The normalization between the layers of pyramid and heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

NORMS = ("group", "none")
CHANNELS_OF_A_GROUP = 8


def norm_layer(norm: str) -> Callable[[int], nn.Module] | None:
    """What torchvision calls with a number of channels after each layer; None for "none"."""
    return _group_norm if norm == "group" else None


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_OF_A_GROUP, channels)
