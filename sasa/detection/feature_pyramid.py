"""The feature pyramid P3 … P7 of convolution or of attention."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from sasa.detection.embeddings import start_embeddings
from sasa.detection.norm import norm_layer
from sasa.layers import replace_convolutions

KINDS = ("conv", "attention")


class FeaturePyramid(FeaturePyramidNetwork):
    """torchvision's pyramid whose 3 × 3 layers are convolutions or, each in its place, attention (App. A.3).

    The 1 × 1 convolutions of C3, C4 and C5 stay. P6 comes from P5 and P7 from P6, with stride 2: the
    attention runs at full resolution and a 2 × 2 average pool follows.

    Args:
        channels: Of the maps C3, C4 and C5.
        fpn_channels: Channels of every level.
        kind: "conv" or "attention".
        norm: "group" or "none", after every layer but P6 and P7.
        kernel_size: Extent of the attention windows.
        num_heads: Of the attention.
        backend: Of the attention, see `sasa.ops.local_self_attention`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        fpn_channels: int = 256,
        *,
        kind: str = "attention",
        norm: str = "group",
        kernel_size: int | tuple[int, int] = 7,
        num_heads: int = 8,
        backend: str = "auto",
    ) -> None:
        last_levels = LastLevelP6P7(fpn_channels, fpn_channels)
        super().__init__(list(channels), fpn_channels, extra_blocks=last_levels, norm_layer=norm_layer(norm))
        self.fpn_channels = fpn_channels
        if kind == "attention":
            replace_convolutions(self, kernel_size=kernel_size, num_heads=num_heads, backend=backend)
            start_embeddings(self)

    def flops(self, x: dict[str, Tensor]) -> int:
        """FLOPs of the top-down additions and of the ReLU before P7; the rest are modules."""
        *fine, coarsest = (feature.shape for feature in x.values())
        pixels = sum(batch * height * width for batch, _, height, width in fine)
        batch, _, height, width = coarsest
        return self.fpn_channels * (pixels + batch * -(-height // 2) * -(-width // 2))
