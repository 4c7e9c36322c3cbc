"""From a PIL image to a normalized tensor, for training and for evaluation: timm's transforms.

Images under 64 pixels get the usual recipe for small images: padding and a random crop in training,
the whole image in evaluation. Larger ones get ImageNet's: a randomly resized crop, and a center
crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

ImageTransform = Callable[[Image.Image], Tensor]

SMALL = 64
"""Side in pixels from which images are large."""


def training_transform(
    input_size: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop: Literal["resized", "padded"] | None = None,
    padding: int | None = None,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    color_jitter: float = 0.0,
    auto_augment: str | None = None,
    re_prob: float = 0.0,
    interpolation: str = "bilinear",
) -> ImageTransform:
    """Make the random training transform.

    Args:
        input_size: (C, H, W) of the result, C 1 or 3.
        mean: of each channel, for pixels in [0, 1]; C numbers.
        std: of each channel; C positive numbers.
        crop: "resized" takes a random part of the image at a random aspect ratio; "padded" resizes
            to H×W, pads with zeros (black) and takes a random H×W window; None means "padded" where
            H or W is under 64, else "resized".
        padding: pixels on each side for "padded"; None means an eighth of the shorter side.
        scale: range of the part's share of the area, for "resized".
        ratio: range of the part's aspect ratio, for "resized".
        hflip: probability of a horizontal flip.
        color_jitter: strength of random brightness, contrast and saturation, 0 is off; RGB only.
        auto_augment: timm's policy, such as "rand-m9-mstd0.5" or "augmix-m5-w3"; None is off. It
            cannot be combined with color_jitter.
        re_prob: probability of erasing a random rectangle, 0 is off.
        interpolation: "bilinear", "bicubic", "nearest", "lanczos", or "random" (only "resized").

    Returns:
        A picklable callable from a PIL image ("L" for C = 1, "RGB" for C = 3) to a float32 tensor
        of shape (C, H, W). It draws from Python's, NumPy's and torch's global generators.

    Raises:
        ValueError: an argument is out of range or does not fit the others.
    """
    _check(input_size, mean, std, interpolation)
    if crop is None:
        crop = "padded" if is_small(input_size) else "resized"
    if crop not in ("resized", "padded"):
        raise ValueError(f"crop must be 'resized' or 'padded', got {crop!r}")
    if padding is not None and (crop != "padded" or padding < 0):
        raise ValueError(f"padding must be 0 or more and goes with crop='padded', got {padding!r}")
    if color_jitter and input_size[0] != 3:
        raise ValueError(f"color_jitter must be 0 for grayscale images, got {color_jitter!r}")
    if color_jitter and auto_augment:
        raise ValueError(
            "color_jitter and auto_augment cannot both be on: auto_augment changes colors itself"
        )
    for name, probability in (("hflip", hflip), ("re_prob", re_prob)):
        if not 0 <= probability <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {probability!r}")
    parts = create_transform(
        input_size,
        is_training=True,
        scale=scale,
        ratio=ratio,
        hflip=hflip,
        color_jitter=color_jitter,
        auto_augment=auto_augment,
        interpolation=interpolation,
        mean=tuple(mean),
        std=tuple(std),
        re_prob=re_prob,
        separate=True,
    )
    steps = [step for part in parts for step in part.transforms]
    if crop == "padded":
        size = input_size[1:]
        if interpolation == "random":
            raise ValueError("interpolation 'random' goes with crop='resized' only")
        steps[:1] = [
            transforms.Resize(size, transforms.InterpolationMode(interpolation)),
            transforms.RandomCrop(size, min(size) // 8 if padding is None else padding),
        ]
    return cast(ImageTransform, transforms.Compose(steps))


def evaluation_transform(
    input_size: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop_pct: float | None = None,
    interpolation: str = "bilinear",
) -> ImageTransform:
    """Make the deterministic evaluation transform: resize the shorter side, crop the center.

    Args:
        input_size: (C, H, W) of the result, C 1 or 3.
        mean: of each channel, for pixels in [0, 1]; C numbers.
        std: of each channel; C positive numbers.
        crop_pct: side of the crop over the side it is resized to, 0 < crop_pct <= 1; None means 1
            where H or W is under 64, else 0.875.
        interpolation: "bilinear", "bicubic", "nearest" or "lanczos".

    Returns:
        A picklable callable from a PIL image ("L" for C = 1, "RGB" for C = 3) to a float32 tensor
        of shape (C, H, W).

    Raises:
        ValueError: an argument is out of range.
    """
    _check(input_size, mean, std, interpolation)
    if interpolation == "random":
        raise ValueError("interpolation 'random' is for training only")
    if crop_pct is None:
        crop_pct = 1.0 if is_small(input_size) else 0.875
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct must lie in (0, 1], got {crop_pct!r}")
    transform = create_transform(
        input_size, crop_pct=crop_pct, interpolation=interpolation, mean=tuple(mean), std=tuple(std)
    )
    return cast(ImageTransform, transform)


def is_small(input_size: tuple[int, int, int]) -> bool:
    """Whether images of (C, H, W) get the transforms for small ones."""
    return min(input_size[1:]) < SMALL


def _check(
    input_size: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str,
) -> None:
    if len(input_size) != 3 or input_size[0] not in (1, 3) or min(input_size) < 1:
        raise ValueError(f"input_size must be (C, H, W) with C 1 or 3, got {input_size!r}")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != input_size[0]:
            raise ValueError(
                f"{name} must have {input_size[0]} number(s), one a channel of input_size, got "
                f"{tuple(values)!r}"
            )
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {tuple(std)!r}")
    known = ("bilinear", "bicubic", "nearest", "lanczos", "random")
    if interpolation not in known:
        raise ValueError(f"interpolation must be one of {', '.join(known)}, got {interpolation!r}")
