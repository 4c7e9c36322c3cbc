"""The sixteen spatial layers of ResNet-50 at 224 × 224, equal ones together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spatial:
    """A 3 × 3 convolution of ResNet-50 v1.5, and the attention that stands for it.

    Args:
        channels: In and out.
        side: Of its square input.
        stride: Of the convolution; the attention has full resolution and pools.
        count: How often ResNet-50 has it.
    """

    channels: int
    side: int
    stride: int
    count: int

    def __str__(self) -> str:
        return f"{self.channels} @ {self.side}" + (", stride 2" if self.stride == 2 else "")


RESNET50 = (
    Spatial(64, 56, 1, 3),
    Spatial(128, 56, 2, 1),
    Spatial(128, 28, 1, 3),
    Spatial(256, 28, 2, 1),
    Spatial(256, 14, 1, 5),
    Spatial(512, 14, 2, 1),
    Spatial(512, 7, 1, 2),
)
