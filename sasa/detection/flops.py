"""Parameters and FLOPs of detectors, by the convention of `sasa.cost`."""

from __future__ import annotations

from torch import Tensor, nn

from sasa.detection.retinanet import RetinaNet
from sasa.models import Cost, cost


def detector_cost(detector: RetinaNet, input_size: tuple[int, int, int] = (3, 640, 640)) -> Cost:
    """Count the parameters and the FLOPs from an image to logits and box offsets, without anchors and NMS.

    Args:
        detector: The detector; it is not changed, and nothing is computed.
        input_size: (C, H, W) of the image after the detector's own resizing.
    """
    return cost(_Network(detector), input_size)


class _Network(nn.Module):
    """Backbone and heads of a detector: images (B, C, H, W) to the outputs of the heads."""

    def __init__(self, detector: RetinaNet) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.head(list(self.backbone(x).values()))
