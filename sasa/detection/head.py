"""RetinaNet's class and box heads of convolution or attention, shared by all levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from sasa.detection.embeddings import init_embeddings
from sasa.detection.norm import group_norm
from sasa.layers import LocalSelfAttention2d, replace_convolutions

VALUE_STD = 0.1
"""Standard deviation of the initial W_V of the attention: N(0, 0.01) of App. A.3, as mean and variance."""
OUTPUT_STD = 0.01
"""Standard deviation of the initial 1 × 1 output convolutions, as of RetinaNet's convolutions."""


class Head(RetinaNetHead):
    """torchvision's heads with 3 × 3 layers of convolution or attention (App. A.3).

    Maps [(B, fpn_channels, H, W), …] to "cls_logits" (B, A, num_classes) and "bbox_regression" (B, A, 4) over
    all A anchors of all levels. The outputs are fp32 (fp64 for fp64 maps) also under autocast, as boxes need
    the precision.

    With attention, the last layers have the channels of the output, rounded up to a multiple of 2·num_heads
    (for example, 48 for the 9 · 4 = 36 box offsets), and a 1 × 1 convolution to the output, which mixes the
    attention heads. The class logits start at the focal loss's prior of 1 %.

    Args:
        fpn_channels: Channels of every level.
        num_anchors: Anchors per pixel.
        num_classes: Number of classes, without a background class.
        layer_type: "conv" or "attention", of the 3 × 3 layers.
        norm_layer: Norm after every layer except the last two, by its number of channels; None for none.
        kernel_size: Extent of the attention windows.
        num_heads: Heads of the attention.
        content_gain: Whether the keys have a learned factor per channel that starts at zero.
        dw_kernel_size: Extent of a depthwise convolution beside each attention except the last two, whose
            channels differ; see `LocalSelfAttention2d`.
        qkv_bias: Whether the projections of the attention have a bias; those of the last two always have.
        backend: Backend of the attention, see `sasa.ops.local_self_attention`.
    """

    def __init__(
        self,
        fpn_channels: int,
        num_anchors: int,
        num_classes: int,
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
        super().__init__(fpn_channels, num_anchors, num_classes, norm_layer=norm_layer)
        if layer_type == "conv":
            return
        last = (self.classification_head.cls_logits, self.regression_head.bbox_reg)
        replace_convolutions(
            self,
            filter_fn=lambda name, conv: conv not in last,
            kernel_size=kernel_size,
            num_heads=num_heads,
            content_gain=content_gain,
            dw_kernel_size=dw_kernel_size,
            bias=qkv_bias,
            backend=backend,
        )

        def attention_and_output(conv: nn.Conv2d) -> nn.Sequential:
            multiple = 2 * num_heads
            channels = -(-conv.out_channels // multiple) * multiple
            attention = LocalSelfAttention2d(
                fpn_channels,
                channels,
                kernel_size,
                num_heads=num_heads,
                content_gain=content_gain,
                bias=True,
                backend=backend,
            )
            output = nn.Conv2d(channels, conv.out_channels, 1)
            nn.init.normal_(output.weight, std=OUTPUT_STD)
            output.bias = conv.bias
            return nn.Sequential(attention, output)

        self.classification_head.cls_logits = attention_and_output(last[0])
        self.regression_head.bbox_reg = attention_and_output(last[1])
        for layer in self.modules():
            if isinstance(layer, LocalSelfAttention2d):
                nn.init.normal_(layer.qkv.weight[-layer.out_channels :], std=VALUE_STD)
        init_embeddings(self)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        outputs = super().forward(x)
        dtype = torch.promote_types(outputs["cls_logits"].dtype, torch.float32)
        return {name: output.to(dtype) for name, output in outputs.items()}
