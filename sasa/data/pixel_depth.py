"""Images with more than 8 bits per pixel, scaled to 8 bits by the range that their file states."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

# TIFF's tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN, _MAX = 258, 262, 340, 341
_WHITE_IS_ZERO = 0


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scale a deep image so that the range of its values becomes 0 … 255.

    The range is what a TIFF file states as SMinSampleValue and SMaxSampleValue. Without them it is 0 …
    2^bits - 1 for unsigned integers of up to 16 bits. It does not depend on the pixels.

    Args:
        image: A decoded image with the attributes of its file.

    Returns:
        The image in mode "L".

    Raises:
        ValueError: The file states no range, which floats and 32-bit or signed integers need, or a pixel is
            outside of it.
    """
    bounds = _range(image)
    if bounds is None:
        raise ValueError(
            "expected 8 or 16 bits per pixel, or a range stated by TIFF's SMinSampleValue and "
            f"SMaxSampleValue, got mode {image.mode!r} without a range; convert the file to 8 or 16 bits"
        )
    low, high = bounds
    pixels = np.asarray(image).astype(np.float64)
    lowest, highest = float(pixels.min()), float(pixels.max())
    if not (low <= lowest and highest <= high):
        raise ValueError(
            f"expected pixels in the range {low:g} … {high:g} that the file states, got {lowest:g} … "
            f"{highest:g}; correct the range or convert the file to 8 bits"
        )
    scaled = np.rint((pixels - low) * (255 / (high - low))).astype(np.uint8)
    # Pillow inverts such images only if they have 8 bits or fewer.
    inverted = _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    result = Image.fromarray(255 - scaled if inverted else scaled)
    result.info = dict(image.info)
    return result


def _tags(image: Image.Image) -> dict[int, Any]:
    return dict(getattr(image, "tag_v2", {}))


def _range(image: Image.Image) -> tuple[float, float] | None:
    """The lowest and the highest value that a pixel can have; None if it is not known."""
    tags = _tags(image)
    if _MIN in tags and _MAX in tags:
        low, high = (float(np.ravel(tags[tag])[0]) for tag in (_MIN, _MAX))
        return (low, high) if low < high else None
    if image.mode.startswith("I;16"):
        return 0.0, 2.0 ** int(np.ravel(tags.get(_BITS_PER_SAMPLE, 16))[0]) - 1
    # Pillow holds these 16-bit formats in mode "I".
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0.0, 65535.0
    return None
