"""torchvision's transforms from a PIL image and its target to the inputs of a detector.

Random numbers come from torch's global generator, which a DataLoader seeds in each of its processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from torchvision.transforms import v2

from sasa.data.detection.datasets import DetectionTransform, Target, without_crowds
from sasa.errors import require


def detection_training_transform(
    size: int = 640,
    *,
    scale: tuple[float, float] = (0.8, 1.2),
    hflip: float = 0.5,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
) -> DetectionTransform:
    """The paper's random training transform (App. A.3): multi-scale jitter, crop, horizontal flip.

    The image is resized so that its longer side is size times a random factor; its aspect ratio is kept.
    Where it exceeds size × size it is cropped at random, and where it is smaller it is padded, at a random
    position. Boxes are clipped to the crop; boxes that are then less than a pixel wide or high are removed.

    Args:
        size: Width and height of the result in pixels.
        scale: Range of the factor, for which the paper gives no numbers; (1, 1) for no jitter.
        hflip: Probability of a horizontal flip.
        mean: The color of the padding, for pixels in [0, 1]; with the mean that the detector subtracts, it
            equals the detector's own padding.

    Returns:
        A picklable callable from an RGB PIL image and a target of DetectionDataset to a float32 tensor
        (3, size, size) in [0, 1] and a dict of boxes (N, 4), labels (N,) and image_id. Crowds are removed,
        and so are area and iscrowd, which only evaluation needs.

    Raises:
        ValueError: An argument is out of range.
    """
    require(size >= 1, "size", "at least 1", size)
    require(0 < scale[0] <= scale[1], "scale", "a range (low, high) with 0 < low <= high", scale)
    require(0 <= hflip <= 1, "hflip", "a probability in [0, 1]", hflip)
    require(len(mean) == 3, "mean", "3 numbers, one per channel", tuple(mean))
    return cast(
        DetectionTransform,
        v2.Compose(
            [
                _loss_target,
                _ScaleJitter((size, size), scale),
                v2.RandomHorizontalFlip(hflip),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomCrop(size, pad_if_needed=True, fill=list(mean)),
                v2.SanitizeBoundingBoxes(min_size=1),
                v2.ToPureTensor(),
            ]
        ),
    )


def detection_evaluation_transform() -> DetectionTransform:
    """The evaluation transform: the whole image in its own size, to which the detections refer.

    Returns:
        A picklable callable from an RGB PIL image and a target to a float32 tensor (3, H, W) in [0, 1] and
        the target with plain tensors. The detector resizes images and maps its boxes back to the original
        size.
    """
    return cast(
        DetectionTransform,
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]),
    )


class _ScaleJitter(v2.ScaleJitter):
    """torchvision's, but a thin image keeps a width and height of at least 1."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        params["size"] = tuple(max(1, side) for side in params["size"])
        return params


def _loss_target(image: Image.Image, target: Target) -> tuple[Image.Image, dict[str, Any]]:
    kept = without_crowds(target)
    return image, {key: kept[key] for key in ("boxes", "labels", "image_id")}
