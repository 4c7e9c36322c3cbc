"""The sixteen spatial layers of ResNet-50 at 224 × 224, grouped by shape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spatial:
    """A 3 × 3 convolution of ResNet-50 v1.5, and the attention that replaces it.

    Attributes:
        channels: Channels of input and output.
        side: Height and width of the input.
        stride: Stride of the convolution; attention has full resolution and then pools.
        count: Number of such layers in ResNet-50.
    """

    channels: int
    side: int
    stride: int
    count: int

    @property
    def out_side(self) -> int:
        """Height and width of the output."""
        return -(-self.side // self.stride)

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
