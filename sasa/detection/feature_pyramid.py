"""The feature pyramid P3 … P7 of convolution or attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from sasa.detection.embeddings import init_embeddings
from sasa.detection.norm import group_norm
from sasa.layers import replace_convolutions

LAYER_TYPES = ("conv", "attention")


class FeaturePyramid(FeaturePyramidNetwork):
    """torchvision's FPN with 3 × 3 layers of convolution or attention (App. A.3).

    The 1 × 1 convolutions of C3, C4 and C5 stay. P6 comes from P5 and P7 from P6, with stride 2: attention at
    full resolution, then 2 × 2 average pooling.

    Args:
        channels: Channels of the maps C3, C4 and C5.
        fpn_channels: Channels of every level.
        layer_type: "conv" or "attention", of the 3 × 3 layers.
        norm_layer: Norm after every layer except P6 and P7, by its number of channels; None for none.
        kernel_size: Extent of the attention windows.
        num_heads: Heads of the attention.
        content_gain: Whether the keys have a learned factor per channel that starts at zero.
        dw_kernel_size: Extent of a depthwise convolution beside each attention, see `LocalSelfAttention2d`.
        qkv_bias: Whether the projections of the attention have a bias; without a norm, they always have.
        backend: Backend of the attention, see `sasa.ops.local_self_attention`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        fpn_channels: int = 256,
        *,
        layer_type: str = "attention",
        norm_layer: Callable[[int], nn.Module] | None = group_norm,
        kernel_size: int | tuple[int, int] = 7,
        num_heads: int = 8,
        content_gain: bool = False,
        dw_kernel_size: int | tuple[int, int] = 0,
        qkv_bias: bool = False,
        backend: str = "auto",
    ) -> None:
        last_levels = LastLevelP6P7(fpn_channels, fpn_channels)
        super().__init__(list(channels), fpn_channels, extra_blocks=last_levels, norm_layer=norm_layer)
        self.fpn_channels = fpn_channels
        if layer_type == "attention":
            replace_convolutions(
                self,
                kernel_size=kernel_size,
                num_heads=num_heads,
                content_gain=content_gain,
                dw_kernel_size=dw_kernel_size,
                bias=qkv_bias,
                backend=backend,
            )
            init_embeddings(self)

    def flops(self, x: dict[str, Tensor]) -> int:
        """FLOPs of the top-down additions and of the ReLU before P7; the other parts are modules."""
        *fine, coarsest = (feature.shape for feature in x.values())
        pixels = sum(batch * height * width for batch, _, height, width in fine)
        batch, _, height, width = coarsest
        return self.fpn_channels * (pixels + batch * -(-height // 2) * -(-width // 2))
