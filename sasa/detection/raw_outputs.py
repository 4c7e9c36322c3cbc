"""A detector without its pre- and postprocessing, for exports, and the postprocessing by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList

from sasa.detection.anchors import Anchors
from sasa.detection.retinanet import Detections, RetinaNet, without_infinite_boxes
from sasa.errors import require

NUM_LEVELS = 5
"""The pyramid's levels, P3 to P7, of strides 8 to 128."""


class RawOutputs(nn.Module):
    """Backbone, pyramid and heads of a detector.

    The input are images (B, C, H, W), normalized by the detector's mean and standard deviation; the outputs
    are class logits (B, A, classes) and box offsets (B, A, 4) of all anchors, from P3 to P7.

    Args:
        detector: A detector in evaluation mode, whose modules are shared.
    """

    def __init__(self, detector: RetinaNet) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head
        self.training = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(list(self.backbone(images).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]


class _Settings:
    """What torchvision's postprocessing reads of a detector."""

    def __init__(self, score_thresh: float, nms_thresh: float, topk: int, per_image: int) -> None:
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.topk_candidates, self.detections_per_img = topk, per_image
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))


def detections_from(
    cls_logits: Tensor,
    bbox_regression: Tensor,
    size: tuple[int, int],
    image_sizes: Sequence[tuple[int, int]] | None = None,
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    topk_candidates: int = 1000,
    detections_per_img: int = 300,
) -> list[Detections]:
    """The detections that `RawOutputs`, or a file exported from it, found in a batch of images.

    Args:
        cls_logits: (B, A, classes), float32.
        bbox_regression: (B, A, 4), float32.
        size: Height and width of the batch, in pixels.
        image_sizes: Height and width of each image without padding at the right and below; None means size.
        score_thresh: Lowest score, in [0, 1].
        nms_thresh: Overlap (IoU) above which the lower of two detections of a class is dropped, in [0, 1].
        topk_candidates: How many anchors of each level are considered, at least 1.
        detections_per_img: Highest number of detections per image, at least 1.

    Returns:
        For each image a dict of boxes (n, 4), x1 y1 x2 y2 in pixels and clipped to the image, labels (n,) and
        scores (n,) in descending order.

    Raises:
        ValueError: The outputs are not those of images of this size.
    """
    height, width = size
    grids = [
        (math.ceil(height / stride), math.ceil(width / stride))
        for stride in (8 * 2**level for level in range(NUM_LEVELS))
    ]
    generator = Anchors()
    per_pixel = generator.num_anchors_per_location()[0]
    counts = [rows * cols * per_pixel for rows, cols in grids]
    if cls_logits.ndim != 3 or cls_logits.shape[1] != sum(counts):
        raise ValueError(
            f"cls_logits: expected (B, {sum(counts)}, classes) for images of {height} × {width}, "
            f"got {tuple(cls_logits.shape)}"
        )
    boxes = (*cls_logits.shape[:2], 4)
    require(bbox_regression.shape == boxes, "bbox_regression", str(boxes), tuple(bbox_regression.shape))
    batch = len(cls_logits)
    image_sizes = [size] * batch if image_sizes is None else list(image_sizes)
    require(len(image_sizes) == batch, "image_sizes", f"one for each of {batch} images", image_sizes)
    images = ImageList(cls_logits.new_empty(batch, 0, height, width), [tuple(x) for x in image_sizes])
    anchors = generator(images, [cls_logits.new_empty(batch, 0, *grid) for grid in grids])
    outputs = {"cls_logits": cls_logits.split(counts, 1), "bbox_regression": bbox_regression.split(counts, 1)}
    settings: Any = _Settings(score_thresh, nms_thresh, topk_candidates, detections_per_img)
    found: list[Detections] = TorchvisionRetinaNet.postprocess_detections(
        settings,
        without_infinite_boxes(outputs),
        [of_image.split(counts) for of_image in anchors],
        images.image_sizes,
    )
    return found
