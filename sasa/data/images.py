"""Decoding of image files into upright 8-bit PIL images; the errors name the broken file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sasa.data.image_formats import image_formats, signed_formats
from sasa.data.orientation import turn_upright
from sasa.data.pixel_depth import is_deep, to_8_bits

# What Pillow raises for damaged pixels, chunks and headers; other errors are not due to the file.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_MODES = {1: "L", 3: "RGB"}


class BrokenImageError(ValueError):
    """A file that cannot be decoded as an 8-bit image; the message names the file and the reason."""


def image_mode(in_chans: int) -> str:
    """Pillow's mode for a number of channels: "L" for 1, "RGB" for 3.

    Raises:
        ValueError: The number is neither 1 nor 3.
    """
    if in_chans not in _MODES:
        raise ValueError(f"in_chans: expected 1 (grayscale) or 3 (RGB), got {in_chans!r}")
    return _MODES[in_chans]


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode the content of an image file.

    Args:
        data: The file's content, in any format that Pillow decodes by itself.
        name: The file's name in messages.

    Returns:
        The fully decoded image in its stored mode.

    Raises:
        BrokenImageError: The content is empty, truncated or not an image.
    """
    if not data:
        raise BrokenImageError(f"{name}: broken image: the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=image_formats())
        image.load()
    except DECODE_ERRORS as error:
        # Pillow's own text would show the address of the in-memory buffer.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image that Pillow can identify" if unknown else str(error)
        raise BrokenImageError(f"{name}: broken image: {reason}") from error
    return image


def identify_image(data: bytes) -> bool:
    """Whether a file's content is that of an image, by the signature at its start."""
    try:
        Image.open(io.BytesIO(data), formats=signed_formats())
    except DECODE_ERRORS:
        return False
    return True


def convert_image(image: Image.Image, mode: str, name: str) -> Image.Image:
    """Convert a decoded image to mode "L" or "RGB", turned upright; transparency is dropped.

    Pixels of more than 8 bits are scaled (see `to_8_bits`).

    Raises:
        BrokenImageError: The pixels are deeper than 8 bits and cannot be scaled.
    """
    if is_deep(image):
        try:
            image = to_8_bits(image)
        except ValueError as error:
            raise BrokenImageError(f"{name}: broken image: {error}") from error
    image = turn_upright(image, name)
    if image.mode == mode:
        return image
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def read_image(path: str | Path, in_chans: int = 3) -> Image.Image:
    """Read one image file from disk, for prediction and figures.

    Args:
        path: An image file in any format that Pillow reads.
        in_chans: 1 for a grayscale ("L") image, 3 for an "RGB" one.

    Returns:
        An 8-bit PIL image, upright as EXIF states.

    Raises:
        OSError: The file cannot be read (FileNotFoundError, PermissionError, …).
        BrokenImageError: The file is damaged or not an image.
        ValueError: in_chans is neither 1 nor 3.
    """
    mode = image_mode(in_chans)
    if Path(path).is_dir():
        raise IsADirectoryError(
            f"path: expected an image file, got the folder {str(path)!r}; give files, such as {path}/*.jpg"
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"path: expected an image file, got {str(path)!r}, which does not exist")
    return convert_image(decode_image(Path(path).read_bytes(), str(path)), mode, str(path))
