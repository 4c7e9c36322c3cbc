"""The orientation that cameras write into image files (EXIF or XMP) instead of turning the pixels."""

from __future__ import annotations

import logging
import struct

from PIL import ExifTags, Image

_logger = logging.getLogger(__name__)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAP_SIDES = (5, 6, 7, 8)

# The entries of Image.info in which Pillow finds the orientation.
_METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def orientation(image: Image.Image, name: str) -> int:
    """The orientation of an image by EXIF's numbers.

    Args:
        image: The image, decoded or just opened.
        name: The file's name in messages.

    Returns:
        2 … 8 for an image that is stored turned or mirrored, else 1. If the metadata are damaged it is 1, as
        in other programs, with a warning in the log.
    """
    if image.format == "TIFF":  # Pillow turns them, and opens them with the size of the upright image
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, OSError, struct.error) as error:
        _logger.warning("%s: damaged EXIF data (%s); the image is used as it is stored", name, error)
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the upright image, from those of the stored one."""
    return size[::-1] if orientation in _SWAP_SIDES else size


def turn_upright(image: Image.Image, name: str) -> Image.Image:
    """The image as viewers show it; its metadata no longer state an orientation.

    Args:
        image: A decoded image.
        name: The file's name in messages.
    """
    method = _TRANSPOSE.get(orientation(image, name))
    return image if method is None else without_orientation(image.transpose(method))


def without_orientation(image: Image.Image) -> Image.Image:
    """A copy of a decoded image, with the pixels as stored, whose metadata state no orientation."""
    # ImageOps.exif_transpose would write the other EXIF data anew, which fails where one of them is damaged.
    copied = image.copy()
    for key in _METADATA:
        copied.info.pop(key, None)
    return copied
