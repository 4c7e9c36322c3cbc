"""RetinaNet's class and box head, shared by the levels, of convolution or of attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from sasa.detection.embeddings import start_embeddings
from sasa.detection.norm import norm_layer
from sasa.layers import LocalSelfAttention2d, replace_convolutions

VALUE_STD = 0.1
"""Deviation of the first W_V of the attention: N(0, 0.01) of App. A.3 read as mean and variance."""
MIXING_STD = 0.01
"""Deviation of the first weights of the last 1 × 1 convolutions: that of RetinaNet's convolutions."""


class Head(RetinaNetHead):
    """torchvision's heads whose 3 × 3 layers are convolutions or, each in its place, attention (App. A.3).

    Maps [(B, fpn_channels, H, W), …] to "cls_logits" (B, A, num_classes) and "bbox_regression" (B, A, 4) over
    all A anchors of all levels, in fp32 (fp64 of fp64 maps) also under autocast, since boxes need the digits.

    Where the last layers are attention, it has the output's channels, rounded up to a multiple of 2·num_heads
    (4 numbers of 9 boxes: 36 become 48), and a 1 × 1 convolution to the very output mixes its heads. The
    class logits start from the focal loss's prior of 1 %.

    Args:
        fpn_channels: Channels of every level.
        num_anchors: At each pixel.
        num_classes: Classes, without a background.
        kind: "conv" or "attention".
        norm: "group" or "none", after every layer but the last two.
        kernel_size: Extent of the attention windows.
        num_heads: Of the attention.
        backend: Of the attention, see `sasa.ops.local_self_attention`.
    """

    def __init__(
        self,
        fpn_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        kind: str = "attention",
        norm: str = "group",
        kernel_size: int | tuple[int, int] = 7,
        num_heads: int = 8,
        backend: str = "auto",
    ) -> None:
        super().__init__(fpn_channels, num_anchors, num_classes, norm_layer=norm_layer(norm))
        if kind == "conv":
            return
        last = (self.classification_head.cls_logits, self.regression_head.bbox_reg)
        replace_convolutions(
            self,
            filter_fn=lambda name, conv: conv not in last,
            kernel_size=kernel_size,
            num_heads=num_heads,
            backend=backend,
        )

        def attention_and_mixing(conv: nn.Conv2d) -> nn.Sequential:
            unit = 2 * num_heads
            inner = -(-conv.out_channels // unit) * unit
            attention = LocalSelfAttention2d(
                fpn_channels, inner, kernel_size, num_heads=num_heads, bias=True, backend=backend
            )
            mixing = nn.Conv2d(inner, conv.out_channels, 1)
            nn.init.normal_(mixing.weight, std=MIXING_STD)
            mixing.bias = conv.bias
            return nn.Sequential(attention, mixing)

        self.classification_head.cls_logits = attention_and_mixing(last[0])
        self.regression_head.bbox_reg = attention_and_mixing(last[1])
        for layer in self.modules():
            if isinstance(layer, LocalSelfAttention2d):
                nn.init.normal_(layer.qkv.weight[-layer.out_channels :], std=VALUE_STD)
        start_embeddings(self)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        outputs = super().forward(x)
        wide = torch.promote_types(outputs["cls_logits"].dtype, torch.float32)
        return {name: output.to(wide) for name, output in outputs.items()}
