"""RetinaNet's anchors."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Anchors(AnchorGenerator):
    """Areas of (32 · 2^(i/3))² pixels, i = 0, 1, 2, at P3, sides doubled per level; ratios 1:2, 1:1, 2:1.

    In fp32 (fp64 for fp64 maps) also under autocast, whose data types are too coarse for coordinates.
    """

    def __init__(self) -> None:
        sizes = tuple(tuple(32 * 2 ** (level + third / 3) for third in range(3)) for level in range(5))
        with torch.device("cpu"):  # they are moved to the device of the images
            super().__init__(sizes, ((0.5, 1.0, 2.0),) * len(sizes))

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        dtype = torch.promote_types(feature_maps[0].dtype, torch.float32)
        maps = [x.new_empty((), dtype=dtype).expand(x.shape) for x in feature_maps]  # only shapes are used
        return super().forward(image_list, maps)
