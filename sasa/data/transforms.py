"""timm's transforms from a PIL image to a normalized tensor, for training and for evaluation.

Images under 64 pixels get the usual augmentation of small images in training, padding and a random crop, and
are used whole in evaluation. Larger images get ImageNet's transforms: a randomly resized crop in training,
and a center crop in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

from sasa.errors import require

ImageTransform = Callable[[Image.Image], Tensor]

SMALL = 64
"""Images whose height or width in pixels is below this get the transforms for small images."""

# Evaluation cuts off the ends of images whose longer side is longer than this many times the shorter one.
_MAX_RATIO = 32

_INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "random")


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
    """The random training transform.

    Args:
        input_size: (C, H, W) of the result, C 1 or 3.
        mean: Mean of each channel, for pixels in [0, 1]; C numbers.
        std: Standard deviation of each channel; C positive numbers.
        crop: "resized" takes a random part of the image at a random aspect ratio; "padded" resizes to H × W,
            pads with zeros (black) and takes a random H × W window; None takes "padded" if H or W is under
            64, else "resized".
        padding: Pixels on each side for "padded"; None takes an eighth of the shorter side.
        scale: Range of the part's share of the area, for "resized".
        ratio: Range of the part's aspect ratio, for "resized".
        hflip: Probability of a horizontal flip.
        color_jitter: Strength of random brightness, contrast and saturation; 0 for none. RGB only.
        auto_augment: timm's policy, such as "rand-m9-mstd0.5" or "augmix-m5-w3"; None for none. It cannot be
            combined with color_jitter.
        re_prob: Probability of erasing a random rectangle.
        interpolation: "bilinear", "bicubic", "nearest", "lanczos", or "random" (for "resized" only).

    Returns:
        A picklable callable from a PIL image ("L" for C = 1, "RGB" for C = 3) to a float32 tensor of shape
        (C, H, W). It draws from the global generators of Python, NumPy and torch.

    Raises:
        ValueError: An argument is out of range or does not fit the others.
    """
    _check(input_size, mean, std, interpolation)
    if crop is None:
        crop = "padded" if is_small(input_size) else "resized"
    require(crop in ("resized", "padded"), "crop", "'resized' or 'padded'", crop)
    if padding is not None:
        require(crop == "padded" and padding >= 0, "padding", "0 or more, with crop='padded'", padding)
    if color_jitter:
        require(input_size[0] == 3, "color_jitter", "0 for grayscale images", color_jitter)
        expected = f"0 with auto_augment={auto_augment!r}, which changes colors itself"
        require(not auto_augment, "color_jitter", expected, color_jitter)
    for name, probability in (("hflip", hflip), ("re_prob", re_prob)):
        require(0 <= probability <= 1, name, "a probability in [0, 1]", probability)
    require(
        crop == "resized" or interpolation != "random",
        "interpolation",
        "another than 'random' with crop='padded'",
        interpolation,
    )
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
    """The deterministic evaluation transform: resize the shorter side, then crop the center.

    Args:
        input_size: (C, H, W) of the result, C 1 or 3.
        mean: Mean of each channel, for pixels in [0, 1]; C numbers.
        std: Standard deviation of each channel; C positive numbers.
        crop_pct: The side of the crop as a share of the resized side, 0 < crop_pct <= 1; None takes 1 if H or
            W is under 64, else 0.875.
        interpolation: "bilinear", "bicubic", "nearest" or "lanczos".

    Returns:
        A picklable callable from a PIL image ("L" for C = 1, "RGB" for C = 3) to a float32 tensor of shape
        (C, H, W).

    Raises:
        ValueError: An argument is out of range.
    """
    _check(input_size, mean, std, interpolation)
    require(interpolation != "random", "interpolation", "another than 'random' in evaluation", interpolation)
    if crop_pct is None:
        crop_pct = default_crop_pct(input_size)
    require(0 < crop_pct <= 1, "crop_pct", "a number in (0, 1]", crop_pct)
    transform = create_transform(
        input_size, crop_pct=crop_pct, interpolation=interpolation, mean=tuple(mean), std=tuple(std)
    )
    return cast(ImageTransform, transforms.Compose([_center_of_thin_image, *transform.transforms]))


def _center_of_thin_image(image: Image.Image) -> Image.Image:
    """The center of an image that is very wide or high, which would be huge after resizing its shorter side.

    What is cut off lies far outside of the center crop that follows.
    """
    short = min(image.size)
    if max(image.size) <= _MAX_RATIO * short:
        return image
    # Both sides of the center lose the same number of pixels, as the center crop expects.
    width, height = (side - 2 * max(0, (side - _MAX_RATIO * short) // 2) for side in image.size)
    return cast(Image.Image, functional.center_crop(image, [height, width]))


def default_crop_pct(input_size: tuple[int, int, int]) -> float:
    """The crop_pct of `evaluation_transform` for images of (C, H, W)."""
    return 1.0 if is_small(input_size) else 0.875


def is_small(input_size: tuple[int, int, int]) -> bool:
    """Whether images of (C, H, W) get the transforms for small images."""
    return min(input_size[1:]) < SMALL


def _check(
    input_size: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str,
) -> None:
    is_image_size = len(input_size) == 3 and input_size[0] in (1, 3) and min(input_size) >= 1
    require(is_image_size, "input_size", "(C, H, W) with C 1 or 3", input_size)
    channels = input_size[0]
    for name, values in (("mean", mean), ("std", std)):
        require(len(values) == channels, name, f"{channels} number(s), one per channel", tuple(values))
    require(min(std) > 0, "std", "positive numbers", tuple(std))
    require(
        interpolation in _INTERPOLATIONS,
        "interpolation",
        f"one of {', '.join(_INTERPOLATIONS)}",
        interpolation,
    )
