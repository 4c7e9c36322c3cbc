"""From a PIL image and its target to what a detector takes, for training and for evaluation.

Everything is torchvision's transforms.v2, which moves the boxes with the pixels. Random numbers come from
torch's global generator, which a DataLoader seeds in each of its processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from torchvision.transforms import v2

from sasa.data.detection.datasets import DetectionTransform, Target, without_crowds


def detection_training_transform(
    size: int = 640,
    *,
    scale: tuple[float, float] = (0.8, 1.2),
    hflip: float = 0.5,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
) -> DetectionTransform:
    """Make the paper's random training transform (App. A.3): multi-scale jitter, crop, horizontal flip.

    The image is resized so that its longer side is size times a factor drawn from scale, its aspect ratio
    kept. What exceeds size × size is cropped at random; what lacks is padded, the image at a random place.
    Boxes are cut off with the image; those that keep less than a pixel of width or height go.

    Args:
        size: width and height of the result in pixels.
        scale: range of the factor, for which the paper has no numbers; (1, 1) turns the jitter off.
        hflip: probability of a horizontal flip.
        mean: of each channel, for pixels in [0, 1], which fills the padding: with the mean that the detector
            subtracts, its own padding and this one are the same.

    Returns:
        A picklable callable from an RGB PIL image and a target of DetectionDataset to a float32 tensor
        (3, size, size) in [0, 1] and a dict of the tensors boxes (N, 4) and labels (N,), and image_id. Crowds
        are left out, and so are area and iscrowd, which only evaluation needs.

    Raises:
        ValueError: an argument is out of range.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size!r}")
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale must be a range (low, high) with 0 < low <= high, got {scale!r}")
    if not 0 <= hflip <= 1:
        raise ValueError(f"hflip must lie in [0, 1], got {hflip!r}")
    if len(mean) != 3:
        raise ValueError(f"mean must have 3 numbers, one a channel, got {tuple(mean)!r}")
    return cast(
        DetectionTransform,
        v2.Compose(
            [
                _for_the_loss,
                v2.ScaleJitter((size, size), scale),
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
    """Make the evaluation transform: the whole image in its own size, which detections then refer to.

    Returns:
        A picklable callable from an RGB PIL image and a target to a float32 tensor (3, H, W) in [0, 1] and
        the target with plain tensors. The detector resizes images and takes its boxes back to the size given.
    """
    return cast(
        DetectionTransform,
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]),
    )


def _for_the_loss(image: Image.Image, target: Target) -> tuple[Image.Image, dict[str, Any]]:
    kept = without_crowds(target)
    return image, {key: kept[key] for key in ("boxes", "labels", "image_id")}
